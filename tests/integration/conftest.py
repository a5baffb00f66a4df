"""What the tests on real servers share."""

from collections.abc import AsyncIterator

import pytest_asyncio

from orchestrator.store.database import Database, DatabaseOptions


@pytest_asyncio.fixture(loop_scope="session")
async def database(database_url: str) -> AsyncIterator[Database]:
    """Connected to a test's own, migrated database."""
    database = Database(DatabaseOptions(url=database_url))
    await database.open()
    yield database
    await database.close()
