"""What PostgreSQL or its client refuses is told apart from a server that is not there."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from orchestrator.domain.errors import SchemaMismatch, StoreRejected
from orchestrator.store.database import Database, DatabaseOptions


@pytest_asyncio.fixture(loop_scope="session")
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(DatabaseOptions(url=database_url))
    await database.open()
    yield database
    await database.close()


@pytest.mark.parametrize(
    ("sql", "value"),
    [
        ("SELECT $1::int", 2**40),
        ("SELECT $1::int", "one"),
        ("SELECT $1::text", "\ud800"),
        ("SELECT $1::text", "a\0b"),
        ("SELECT $1::text::jsonb", '{"a": "\\u0000"}'),
        ("SELECT 1 / $1::int", 0),
    ],
)
async def test_value_that_is_refused_will_never_be_taken(
    database: Database, sql: str, value: object
) -> None:
    with pytest.raises(StoreRejected):
        await database.fetch(sql, value)


async def test_missing_table_is_a_matter_of_the_schema(database: Database) -> None:
    with pytest.raises(SchemaMismatch, match="orchestrator migrate"):
        await database.fetch("SELECT FROM tasks_of_tomorrow")


async def test_wrong_statement_is_nobodys_fault_but_ours(database: Database) -> None:
    with pytest.raises(Exception, match="syntax") as caught:
        await database.fetch("SELEC 1")
    assert not isinstance(caught.value, StoreRejected)
