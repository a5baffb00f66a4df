"""A database of the test's own, and messages for it."""

from collections.abc import AsyncIterator

import pytest_asyncio

from orchestrator.store.database import Database, DatabaseOptions
from tests.fakes.workers import Feed


@pytest_asyncio.fixture(loop_scope="session")
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(DatabaseOptions(url=database_url, pool_size=4))
    await database.open()
    yield database
    await database.close()


@pytest_asyncio.fixture(loop_scope="session")
async def feed(database: Database) -> Feed:
    return Feed(database)
