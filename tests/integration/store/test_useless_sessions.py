"""Sessions that live and are of no use are dropped; the statement that met one is not lost."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest
import pytest_asyncio
from asyncpg import PostgresSyntaxError

from orchestrator.app import session_problem
from orchestrator.domain.errors import (
    NotAllowed,
    SchemaMismatch,
    StoreRejected,
    StoreUnavailable,
)
from orchestrator.store.database import Database, DatabaseOptions, with_reserve
from orchestrator.store.errors import SessionUseless
from tests.integration.api.test_health import serving

WRITE = "INSERT INTO leases (name) VALUES ('test') ON CONFLICT DO NOTHING"
PID = "SELECT pg_backend_pid()"
READ_ONLY = "ALTER DATABASE {} SET default_transaction_read_only = on"
WRITABLE = "ALTER DATABASE {} RESET default_transaction_read_only"

Alter = Callable[[str], Awaitable[None]]


@pytest_asyncio.fixture(loop_scope="session")
async def one(database_url: str) -> AsyncIterator[Database]:
    """With one session at a time: the next statement meets what the one before left."""
    database = Database(DatabaseOptions(url=database_url, pool_size=1))
    await database.open()
    yield database
    await database.close()


@pytest_asyncio.fixture(loop_scope="session")
async def alter(database: Database, database_url: str) -> AsyncIterator[Alter]:
    """Changes the database for sessions that begin after it."""
    name = database_url.rpartition("/")[2]

    async def change(sql: str) -> None:
        await database.fetch(sql.format(f'"{name}"'))

    yield change
    await change(WRITABLE)


async def pid(database: Database) -> int:
    ((number,),) = await database.fetch(PID)
    return int(number)


async def test_sessions_begun_while_it_was_read_only_write_when_it_takes_writes_again(
    database_url: str, alter: Alter
) -> None:
    await alter(READ_ONLY)
    late = Database(DatabaseOptions(url=database_url, pool_size=3))
    await late.open()
    with pytest.raises(StoreUnavailable, match=r"read-only transaction \(25006\)"):
        await late.fetch(WRITE)
    await alter(WRITABLE)

    await late.fetch(WRITE)
    await late.close()


async def test_a_worker_keeps_no_session_that_takes_no_writes(
    database_url: str, alter: Alter
) -> None:
    await alter(READ_ONLY)
    worker = with_reserve(DatabaseOptions(url=database_url))
    with pytest.raises(SessionUseless, match="new sessions are read-only"):
        await worker.open()
    await alter(WRITABLE)

    await worker.open()
    await worker.fetch(WRITE)
    await worker.close()


LEFT: Sequence[tuple[str, Sequence[str], str]] = [
    ("a read-only session (25006)", ["SET default_transaction_read_only = on"], WRITE),
    ("a transaction that failed (25P02)", ["BEGIN", "SELECT 1 / 0"], PID),
    ("prepared statements that are gone (26000)", [PID, "DEALLOCATE ALL"], PID),
    ("a search_path that is gone (42P01)", ["SET search_path = nowhere"], WRITE),
    ("no schema to create in (3F000)", ["SET search_path = nowhere"], "CREATE TABLE here (n int)"),
    ("a role without rights (42501)", ["SET ROLE pg_monitor"], WRITE),
    ("a plan whose result changed (0A000)", ["CREATE TABLE grows (n int)", "SELECT * FROM grows",
     "ALTER TABLE grows ADD more text"], "SELECT * FROM grows"),
]  # fmt: skip


@pytest.mark.parametrize(("before", "statement"), [(b, s) for _, b, s in LEFT],
                         ids=[name for name, _, _ in LEFT])  # fmt: skip
async def test_what_a_session_is_to_blame_for_is_done_on_a_new_one(
    one: Database, before: Sequence[str], statement: str
) -> None:
    for sql in before:
        try:
            await one.fetch(sql)
        except StoreRejected:
            continue

    await one.fetch(statement)


async def test_what_no_session_can_do_is_told_as_before(one: Database) -> None:
    with pytest.raises(SchemaMismatch):
        await one.fetch("SELECT FROM nowhere")
    await one.fetch("CREATE OR REPLACE FUNCTION denied() RETURNS void LANGUAGE plpgsql AS "
                    "$$BEGIN RAISE insufficient_privilege; END$$")  # fmt: skip
    with pytest.raises(NotAllowed):
        await one.fetch("SELECT denied()")


@pytest.mark.parametrize(
    ("sql", "error"),
    [
        ("SELECT 1 / 0", StoreRejected),
        ("SELEC 1", PostgresSyntaxError),
        ("SELECT pg_sleep(5)", StoreUnavailable),
    ],
)
async def test_what_a_statement_is_to_blame_for_costs_no_session(
    one: Database, sql: str, error: type[Exception]
) -> None:
    before = await pid(one)
    await one.fetch("SET statement_timeout = 50")
    with pytest.raises(error):
        await one.fetch(sql)
    assert await pid(one) == before


async def test_all_sessions_go_when_one_is_found_useless(database_url: str) -> None:
    database = Database(DatabaseOptions(url=database_url, pool_size=3))
    await database.open()
    before = await pid(database)
    await database.fetch("SET default_transaction_read_only = on")
    await database.fetch(WRITE)
    assert await pid(database) != before
    await database.close()


async def test_a_terminated_session_is_replaced(one: Database) -> None:
    before = await pid(one)
    with pytest.raises(StoreUnavailable):
        await one.fetch("SELECT pg_terminate_backend(pg_backend_pid())")
    assert await pid(one) != before


async def test_livez_fails_after_a_minute_in_which_new_sessions_did_not_help(
    database_url: str, alter: Alter
) -> None:
    now = [0.0]
    late = Database(DatabaseOptions(url=database_url, pool_size=1), seconds=lambda: now[0])

    async def worker() -> str | None:
        return session_problem(late)

    await alter(READ_ONLY)
    await late.open()
    async with serving(live={"worker": worker}, ready={}) as get:
        with pytest.raises(SessionUseless):
            await late.fetch(WRITE)
        now[0] = 59.0
        assert (await get("/livez"))[0] == 200
        now[0] = 61.0
        status, body = await get("/livez")
    assert status == 503
    assert b"PostgreSQL has refused every new session of this worker for 61 s" in body
    await late.close()


async def test_how_long_new_sessions_have_not_helped_is_known(
    database_url: str, alter: Alter
) -> None:
    times = [110.0, 171.0]
    late = Database(DatabaseOptions(url=database_url, pool_size=1), seconds=lambda: times.pop(0))
    await alter(READ_ONLY)
    await late.open()
    for _ in range(2):
        with pytest.raises(SessionUseless):
            await late.fetch(WRITE)
    assert late.useless_seconds == 61.0
    await alter(WRITABLE)

    await late.fetch(WRITE)
    assert late.useless_seconds == 0.0
    await late.close()
