"""Whatever stands in the database: it is ours and fits, or one line says what it is."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from orchestrator.domain.errors import NotAllowed, SchemaBehind, SchemaForeign, SchemaMismatch
from orchestrator.store import tables
from orchestrator.store.database import Database
from orchestrator.store.migrations import bring_up_to_date, check, upgrade
from orchestrator.store.revision import FIRST_TABLES, TABLES, check_revision, current, head
from tests.fixtures.roles import role
from tests.fixtures.servers import PostgresServer
from tests.integration.cli.command import called
from tests.integration.store.earlier import executed, made_by_earlier_release

OLD_LOOK = "SELECT version_num FROM alembic_version"
"""Release 0.1.0, at each start of a worker."""
REVISION = "INSERT INTO alembic_version VALUES ('ae1027a6acf');"
ALEMBIC = "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY);"
OURS = "CREATE TABLE orchestrator_schema_version (version_num varchar(32) PRIMARY KEY);"
CORE = "".join(f"CREATE TABLE {name} (id int);" for name in FIRST_TABLES)
LAST = "0013"
"""The last revision whose version stands in `alembic_version`."""


@pytest_asyncio.fixture(loop_scope="session")
async def empty(postgres: PostgresServer) -> AsyncIterator[str]:
    """The URL of a database without any table."""
    name = f"test_{uuid.uuid4().hex}"
    yield await postgres.create_database(name)
    await postgres.drop_database(name)


FOREIGN = {
    "a revision of another program": (ALEMBIC + REVISION,
        "its table alembic_version holds 'ae1027a6acf'"),
    "another program that counts as we do": (ALEMBIC + REVISION.replace("ae1027a6acf", "0009"),
        "holds '0009', and orchestrator's tables are not there"),
    "branches of another program": (ALEMBIC + "INSERT INTO alembic_version VALUES ('a'), ('b')",
        "holds 'a', 'b'"),
    "a view of its name": ("CREATE VIEW alembic_version AS SELECT 1 AS version_num",
        "alembic_version is not a table of schema versions"),
    "a table of our name": ("CREATE TABLE workers (surname text)",
        "it has a table 'workers' and no table 'orchestrator_schema_version'"),
    "our tables and an empty version": (ALEMBIC + CORE, "it has a table 'inbox' and no table"),
    "a view of our name": ("CREATE VIEW agents AS SELECT 1 AS id", "it has a table 'agents'"),
    "our version table of another shape": ("CREATE TABLE orchestrator_schema_version (v int)",
        "orchestrator_schema_version is not a table of schema versions"),
    "a revision that nobody made": (OURS + "INSERT INTO orchestrator_schema_version VALUES ('x')",
        "holds 'x', which is no revision of orchestrator"),
}  # fmt: skip


@pytest.mark.parametrize(("there", "word"), FOREIGN.values(), ids=FOREIGN)
async def test_a_database_of_another_program_is_named_and_left_as_it_is(
    empty: str, there: str, word: str
) -> None:
    await executed(empty, there)
    for attempt in (check_revision, bring_up_to_date):
        with pytest.raises(SchemaForeign, match="belongs to another program") as refused:
            await attempt(empty)
        assert word in str(refused.value)
    for command in (["migrate"], ["migrate", "--check"]):
        done = await called({"DATABASE_URL": empty}, *command)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("error: this database belongs to another program: ")
        assert len(done.stderr.splitlines()) == 1


DAMAGED = {
    "two revisions": ("INSERT INTO orchestrator_schema_version VALUES ('0012')", "2 revisions"),
    "no revision": ("DELETE FROM orchestrator_schema_version", "holds no revision"),
    "a table is gone": ("DROP TABLE tasks CASCADE", "and tasks is missing, or no tables"),
    "a view for a table": ("ALTER TABLE pauses RENAME TO p; CREATE VIEW pauses AS TABLE p",
        "and pauses is missing"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "word"), DAMAGED.values(), ids=DAMAGED)
async def test_a_schema_that_is_not_whole_is_told_and_left_as_it_is(
    database_url: str, change: str, word: str
) -> None:
    await executed(database_url, change)
    with pytest.raises(SchemaForeign, match="is not whole") as refused:
        await check_revision(database_url)
    assert word in str(refused.value)
    done = await called({"DATABASE_URL": database_url}, "migrate")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)


@pytest.mark.parametrize(
    "there", ["", ALEMBIC, OURS, "CREATE TABLE orders (id int)"],
    ids=["nothing", "an empty alembic_version", "an empty version table", "tables of others"],
)  # fmt: skip
async def test_a_database_without_our_schema_gets_it(empty: str, there: str) -> None:
    await executed(empty, there or "SELECT 1")
    with pytest.raises(SchemaMismatch, match="no schema yet"):
        await check_revision(empty)
    await asyncio.to_thread(upgrade, empty)
    await check_revision(empty)
    await asyncio.to_thread(check, empty) if not there else None


async def test_a_schema_of_its_own_lies_beside_another_program(empty: str) -> None:
    await executed(empty, ALEMBIC + REVISION + CORE)
    await executed(empty, "CREATE SCHEMA ours")
    url = f"{empty}?options=-c%20search_path%3Dours,public"
    await asyncio.to_thread(upgrade, url)
    await check_revision(url)
    with pytest.raises(SchemaForeign):
        await check_revision(empty)


@pytest.mark.parametrize("revision", ["0002", "0009", LAST])
async def test_the_version_of_an_earlier_release_moves_to_a_table_of_our_own(
    empty: str, revision: str
) -> None:
    await made_by_earlier_release(empty, revision=revision)
    with pytest.raises(SchemaBehind, match=revision):
        await check_revision(empty)
    await asyncio.to_thread(upgrade, empty)
    await asyncio.to_thread(upgrade, empty)

    assert await current(empty) == head()
    await asyncio.to_thread(check, empty)


async def test_workers_of_the_last_release_that_start_after_it_read_the_version(
    empty: str, postgres: PostgresServer
) -> None:
    """Also as a role that was given no more than it needs."""
    role = f"run_{uuid.uuid4().hex}"
    await made_by_earlier_release(empty, revision=LAST)
    await executed(empty, f"CREATE ROLE {role}; GRANT SELECT ON alembic_version TO {role}")
    await asyncio.to_thread(upgrade, empty)

    look = f"SET ROLE {role}; DO $$ BEGIN ASSERT ({OLD_LOOK}) = '{head()}'; END $$"
    await executed(empty, look)
    await executed(empty, f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_two_who_migrate_at_once_take_turns(empty: str) -> None:
    await made_by_earlier_release(empty, revision=LAST)
    await asyncio.gather(*(asyncio.to_thread(upgrade, empty) for _ in range(3)))
    await check_revision(empty)


async def test_a_later_schema_is_left_as_it_is(database_url: str) -> None:
    await executed(database_url, "UPDATE orchestrator_schema_version SET version_num = '9999'")
    await check_revision(database_url)
    await bring_up_to_date(database_url)
    done = await called({"DATABASE_URL": database_url}, "migrate", "--json")
    assert json.loads(done.stdout) == {"current": True, "revision": "9999", "migrated": False}
    done = await called({"DATABASE_URL": database_url}, "migrate")
    assert done.stdout.startswith("the schema is at revision 9999, of a later release")


async def test_a_role_that_may_not_look_is_told_what_to_grant(
    database: Database, database_url: str
) -> None:
    async with role(database, database_url) as url:
        with pytest.raises(NotAllowed, match="GRANT SELECT ON ALL TABLES IN SCHEMA public TO"):
            await check_revision(url)
        await executed(database_url, "REVOKE USAGE ON SCHEMA public FROM PUBLIC")
        with pytest.raises(NotAllowed, match="may use no schema of this database"):
            await check_revision(url)


def test_the_tables_that_are_looked_for_are_those_of_this_release() -> None:
    assert sorted(TABLES) == sorted(tables.metadata.tables)
