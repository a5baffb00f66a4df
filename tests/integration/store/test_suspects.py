"""A task that kills its workers is set aside; those that shared a worker with it are not."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest_asyncio

from orchestrator.domain.ids import Seq, WorkerId
from orchestrator.domain.step import EventApplied, Step
from orchestrator.store import claims, upkeep
from orchestrator.store.database import Database, DatabaseOptions
from orchestrator.store.ingest import Claimed
from orchestrator.store.journal import Entry, journal
from tests.fakes.workers import Feed

FIRST, SECOND = WorkerId(1), WorkerId(2)
SHARED, MOST = 3, 5
FIRST_IN_LINE = """
UPDATE tasks SET status = 'ready', run_at = now() - interval '1 day' WHERE id = $1
"""


@pytest_asyncio.fixture(loop_scope="session")
async def database(database_url: str) -> AsyncIterator[Database]:
    """With three tasks that were claimed three times without a step."""
    database = Database(DatabaseOptions(url=database_url, pool_size=2))
    await database.open()
    await Feed(database).send([Feed(database).new_task(f"t{n}") for n in range(3)])
    await database.fetch("UPDATE tasks SET claims = $1, updated_at = now()", SHARED)
    yield database
    await database.close()


async def suspect(database: Database, worker: WorkerId) -> list[Claimed]:
    return await claims.claim_suspect(database, worker, shared_claims=SHARED, max_claims=MOST)


async def test_a_suspect_is_not_claimed_among_others(database: Database) -> None:
    assert await claims.claim(database, FIRST, limit=9, max_claims=SHARED, weights={}) == []


async def test_a_worker_runs_one_suspect_at_a_time(database: Database) -> None:
    (mine,) = await suspect(database, FIRST)
    assert await suspect(database, FIRST) == []

    (other,) = await suspect(database, SECOND)

    assert other.key != mine.key


async def test_a_suspect_that_makes_a_step_is_none_any_more_and_another_may_follow(
    database: Database,
) -> None:
    (mine,) = await suspect(database, FIRST)
    step = Step(seq=Seq(2), body=EventApplied(event_type="data", payload={}, source="s"))

    await journal(database, [Entry(key=mine.key, epoch=mine.epoch, seq=Seq(2), steps=(step,))])

    (next_one,) = await suspect(database, FIRST)
    assert next_one.key != mine.key
    assert await upkeep.quarantine(database, max_claims=MOST, dead_letters="dead") == 0


async def test_a_suspect_whose_worker_died_of_something_else_is_tried_alone_again(
    database: Database,
) -> None:
    for _ in range(2):
        (mine,) = await suspect(database, FIRST)
        assert await upkeep.quarantine(database, max_claims=MOST, dead_letters="dead") == 0
        await claims.release(database, FIRST, [mine], delay=timedelta())
        await database.fetch(FIRST_IN_LINE, mine.key)

    assert await upkeep.quarantine(database, max_claims=MOST, dead_letters="dead") == 1
