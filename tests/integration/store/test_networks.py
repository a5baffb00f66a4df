"""The network between worker and PostgreSQL fails in every way: each question ends in time."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

import asyncpg
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from chaos.proxy import Proxy, by_way_of, running_proxy
from orchestrator.domain.errors import StoreUnavailable
from orchestrator.store import notices, revision
from orchestrator.store.database import Database, DatabaseOptions
from orchestrator.store.notices import Notice, Notices
from tests.fakes.bus import until

STATEMENT_SECONDS = 0.5
PATIENCE_SECONDS = STATEMENT_SECONDS + 2
SLACK_SECONDS = 10.0
"""For a machine that is busy with other tests."""
POOL = 3
SLEEPS = "SELECT pg_sleep(20)"
UNDER_WAY = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND state = 'active' AND query = $1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Far:
    """A database behind a proxy."""

    database: Database
    proxy: Proxy


@pytest_asyncio.fixture(loop_scope="session")
async def far(database_url: str) -> AsyncIterator[Far]:
    parts = urlsplit(database_url)
    assert parts.hostname is not None
    async with running_proxy(parts.hostname, parts.port or 5432) as proxy:
        options = DatabaseOptions(
            url=by_way_of(proxy, database_url),
            pool_size=POOL,
            connect_timeout_seconds=2.0,
            statement_timeout_seconds=STATEMENT_SECONDS,
        )
        database = Database(options)
        await database.open()
        yield Far(database=database, proxy=proxy)
        await database.close()


async def one(far: Far) -> int:
    row = await far.database.fetch_one("SELECT 1 AS one")
    assert row is not None
    return int(row["one"])


async def ends_in_time(far: Far, *, questions: int = 1) -> list[object]:
    """What came of so many questions at once, none of which may take longer than it may."""
    began = time.monotonic()
    async with asyncio.timeout(PATIENCE_SECONDS + SLACK_SECONDS):
        asked = (one(far) for _ in range(questions))
        found = await asyncio.gather(*asked, return_exceptions=True)
    assert time.monotonic() - began < PATIENCE_SECONDS + SLACK_SECONDS
    return list(found)


async def test_a_black_hole_holds_no_question_and_no_connection_for_ever(far: Far) -> None:
    assert await ends_in_time(far, questions=POOL) == [1] * POOL
    far.proxy.black_hole()
    for _ in range(2):
        answers = await ends_in_time(far, questions=4 * POOL)
        assert {type(answer) for answer in answers} == {StoreUnavailable}
    far.proxy.heal()
    assert await ends_in_time(far, questions=4 * POOL) == [1] * 4 * POOL


async def test_half_open_connections_are_given_up_and_others_opened(far: Far) -> None:
    assert await ends_in_time(far, questions=POOL) == [1] * POOL
    assert far.proxy.half_open() == POOL
    await ends_in_time(far, questions=POOL)
    assert await ends_in_time(far, questions=POOL) == [1] * POOL


async def test_a_reset_costs_one_attempt(far: Far) -> None:
    assert await ends_in_time(far, questions=POOL) == [1] * POOL
    far.proxy.cut()
    await ends_in_time(far, questions=POOL)
    assert await ends_in_time(far, questions=POOL) == [1] * POOL


async def test_an_outage_is_told_once_when_it_begins_and_once_when_it_ends(far: Far) -> None:
    with capture_logs() as lines:
        far.proxy.black_hole()
        await ends_in_time(far, questions=2 * POOL)
        await ends_in_time(far)
        far.proxy.heal()
        assert await one(far) == 1
    assert [line["event"] for line in lines] == ["unavailable", "available again"]


async def test_a_slow_network_only_delays(far: Far) -> None:
    far.proxy.delay_seconds = 0.05
    options = far.database._options
    patient = replace(options, connect_timeout_seconds=10, statement_timeout_seconds=30)
    database = Database(patient)
    await database.open()
    found = await asyncio.gather(*(database.fetch_one("SELECT 1") for _ in range(2 * POOL)))
    assert [row[0] for row in found if row is not None] == [1] * 2 * POOL
    await database.close()


async def test_nobody_waits_for_ever_for_a_free_connection(far: Far) -> None:
    assert await one(far) == 1
    far.proxy.black_hole()
    holders = [asyncio.create_task(one(far)) for _ in range(POOL)]
    await asyncio.sleep(0)
    [answer] = await ends_in_time(far)
    assert isinstance(answer, StoreUnavailable)
    await asyncio.gather(*holders, return_exceptions=True)


async def test_who_is_cancelled_in_a_black_hole_ends_at_once(far: Far) -> None:
    assert await one(far) == 1
    far.proxy.black_hole()
    asking = asyncio.create_task(one(far))
    await asyncio.sleep(0)
    asking.cancel()
    async with asyncio.timeout(0.5):
        with pytest.raises(asyncio.CancelledError):
            await asking


async def test_closing_ends_what_is_still_asked_as_an_outage_does(
    far: Far, database_url: str
) -> None:
    near = await asyncpg.connect(database_url)

    async def is_asked() -> bool:
        return bool(await near.fetchval(UNDER_WAY, SLEEPS))

    patient = Database(replace(far.database._options, statement_timeout_seconds=30))
    await patient.open()
    asked = asyncio.create_task(patient.fetch_one(SLEEPS))
    await until(is_asked, what="a statement under way")
    await near.close()
    far.proxy.black_hole()
    await patient.close()
    [answer] = await asyncio.gather(asked, return_exceptions=True)
    assert isinstance(answer, StoreUnavailable)


async def test_opening_through_a_black_hole_says_that_nobody_is_there(far: Far) -> None:
    far.proxy.black_hole()
    other = Database(far.database._options)
    async with asyncio.timeout(PATIENCE_SECONDS + SLACK_SECONDS):
        with pytest.raises(StoreUnavailable):
            await other.open()


async def test_the_schemas_revision_is_asked_for_in_time_too(
    far: Far, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revision, "LOOK_SECONDS", 0.5)
    far.proxy.black_hole()
    async with asyncio.timeout(SLACK_SECONDS):
        with pytest.raises(StoreUnavailable):
            await revision.current(far.database._options.url)


async def test_a_listener_that_was_cut_off_in_silence_listens_again(
    far: Far, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "LISTEN_SECONDS", 0.1)
    heard: list[Notice] = []
    listening = asyncio.create_task(Notices(far.database, heard=heard.append).hear())
    await until(lambda: len(heard) >= len(Notice), what="a connection that listens")
    far.proxy.half_open()
    heard.clear()
    await until(lambda: len(heard) >= len(Notice), what="another that listens")
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
