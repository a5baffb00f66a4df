"""What PostgreSQL or its client refuses is told apart from a server that is not there."""

import pytest

from orchestrator.domain.errors import SchemaMismatch, StoreRejected
from orchestrator.store.database import Database, DatabaseOptions, with_reserve
from tests.fixtures.roles import role


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


async def test_a_server_that_does_not_tell_its_timeline_is_used_all_the_same(
    database: Database, database_url: str
) -> None:
    """As managed ones may be: a worker that can't ask must not stand still for ever."""
    await database.fetch("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
    async with role(database, database_url) as url:
        asking = with_reserve(DatabaseOptions(url=url))
        try:
            await asking.open()
            ((user,),) = await asking.fetch("SELECT current_user")
        finally:
            await asking.close()
    assert f"//{user}:" in url
