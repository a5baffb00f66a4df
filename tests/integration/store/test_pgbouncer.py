"""PgBouncer before PostgreSQL: in session mode all works, another mode is told in one line."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from orchestrator.domain.errors import InvalidSettings
from orchestrator.store.database import Database, DatabaseOptions, with_reserve
from orchestrator.store.notices import Notice, Notices, notify
from orchestrator.store.pooler import check_sessions
from tests.fakes.bus import until
from tests.fixtures.pgbouncer import Pooled
from tests.fixtures.pgbouncer import pooled as pooled  # a fixture
from tests.integration.cli.command import called

IGNORES = "ignore_startup_parameters = statement_timeout, lock_timeout, jit"
LOOKS = """
SELECT current_setting('statement_timeout') AS statement, current_setting('lock_timeout') AS lock,
       current_setting('application_name') AS name, current_setting('timezone') AS zone
"""


@pytest_asyncio.fixture(loop_scope="session", params=["", IGNORES], ids=["strict", "ignoring"])
async def sessions(
    pooled: Pooled, database_url: str, request: pytest.FixtureRequest
) -> AsyncIterator[str]:
    """The URL of one in session mode."""
    async with pooled(database_url, mode="session", more=request.param) as url:
        yield url


async def test_in_session_mode_a_session_has_its_time_outs_and_its_name(sessions: str) -> None:
    database = with_reserve(DatabaseOptions(url=sessions))
    await database.open()
    try:
        for pool in (database, database.reserve):
            row = await pool.fetch_one(LOOKS)
            assert row is not None
            assert dict(row) == {
                "statement": "10s", "lock": "5s", "name": "orchestrator", "zone": "UTC",
            }  # fmt: skip
    finally:
        await database.close()


async def test_in_session_mode_notices_are_heard(sessions: str) -> None:
    database = Database(DatabaseOptions(url=sessions))
    await database.open()
    heard: list[Notice] = []
    notices = Notices(database, heard=heard.append)
    listening = asyncio.create_task(notices.hear())

    async def listens() -> bool:
        return len(heard) >= len(Notice)

    async def comes() -> bool:
        await notify(database, Notice.AGENTS)
        return heard.count(Notice.AGENTS) > 1

    await until(listens, what="all notices once")
    await until(comes, what="a notice")
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    await database.close()


async def test_session_mode_is_taken_for_sessions(sessions: str) -> None:
    await check_sessions(DatabaseOptions(url=sessions))


@pytest.mark.parametrize("mode", ["transaction", "statement"])
async def test_another_mode_is_refused_in_one_line(
    pooled: Pooled, database_url: str, mode: str
) -> None:
    async with pooled(database_url, mode=mode) as url:
        with pytest.raises(InvalidSettings, match="set pool_mode=session") as refused:
            await check_sessions(DatabaseOptions(url=url))
        assert "\n" not in str(refused.value)
        done = await called(
            {"DATABASE_URL": url, "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}, "doctor"
        )
    assert "failed   PostgreSQL  DATABASE_URL leads to a pooler that does not" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


async def test_transaction_mode_is_found_out_beside_other_clients(
    pooled: Pooled, database_url: str
) -> None:
    async with pooled(database_url, mode="transaction", more="default_pool_size = 5") as url:
        others = Database(DatabaseOptions(url=url, pool_size=6))
        busy = [asyncio.create_task(_ask_on(others)) for _ in range(6)]
        try:
            await others.open()
            for _ in range(10):
                with pytest.raises(InvalidSettings, match="pool_mode"):
                    await check_sessions(DatabaseOptions(url=url))
        finally:
            for task in busy:
                task.cancel()
            await asyncio.gather(*busy, return_exceptions=True)
            await others.close()


async def test_the_schema_is_migrated_by_way_of_session_mode(sessions: str) -> None:
    done = await called({"DATABASE_URL": sessions}, "migrate", "--json")
    assert done.returncode == 0, done.stderr


async def _ask_on(database: Any) -> None:
    while True:
        try:
            await database.fetch("SELECT pg_sleep(0.001)")
        except Exception:  # noqa: BLE001 - a pooler in that mode breaks it off at times
            await asyncio.sleep(0)
