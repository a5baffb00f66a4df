"""A task that kills its workers is set aside; those that shared a worker with it are not."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
import pytest_asyncio

from orchestrator.domain.ids import Seq, WorkerId
from orchestrator.domain.step import EventApplied, Step
from orchestrator.store import claims, upkeep, workers
from orchestrator.store.database import Database, DatabaseOptions
from orchestrator.store.ingest import Claimed
from orchestrator.store.journal import Entry, journal
from tests.fakes.workers import Feed

FIRST, SECOND = WorkerId(1), WorkerId(2)
SHARED, MOST = 2, 5
FIRST_IN_LINE = """
UPDATE tasks SET status = 'ready', run_at = now() - interval '1 day' WHERE id = $1
"""


@pytest_asyncio.fixture(loop_scope="session")
async def database(database_url: str) -> AsyncIterator[Database]:
    """With tasks that were claimed twice without a step."""
    database = Database(DatabaseOptions(url=database_url, pool_size=2))
    await database.open()
    await Feed(database).send([Feed(database).new_task(f"t{n}") for n in range(9)])
    await database.fetch("UPDATE tasks SET claims = $1, updated_at = now()", SHARED)
    yield database
    await database.close()


async def suspect(database: Database, worker: WorkerId) -> list[Claimed]:
    return await claims.claim_suspect(database, worker, shared_claims=SHARED, max_claims=MOST)


async def test_a_suspect_is_not_claimed_among_others(database: Database) -> None:
    assert await claims.claim(database, FIRST, limit=9, shared_claims=SHARED, weights={}) == []


async def all_suspects(database: Database, worker: WorkerId) -> list[Claimed]:
    """As many as the worker may have side by side."""
    taken: list[Claimed] = []
    while more := await suspect(database, worker):
        taken += more
    return taken


async def claimed_again(database: Database, tasks: list[Claimed]) -> None:
    """As if their worker had died."""
    await claims.release(database, FIRST, tasks, delay=timedelta())
    await claims.wake_due(database)


async def test_suspects_are_tried_among_ever_fewer_and_in_the_end_alone(database: Database) -> None:
    first = await all_suspects(database, FIRST)
    assert len(first) == 4

    await database.fetch("UPDATE tasks SET claims = $1 + 1 WHERE status = 'ready'", SHARED)
    assert await all_suspects(database, FIRST) == []  # they may have one beside them, not four
    await claimed_again(database, first)
    second = await all_suspects(database, FIRST)
    assert len(second) == 2

    await claimed_again(database, second)
    await database.fetch("UPDATE tasks SET claims = $1 WHERE status = 'ready'", MOST - 1)
    (last,) = await all_suspects(database, FIRST)
    (other,) = await suspect(database, SECOND)
    assert other.key != last.key


async def test_nothing_joins_a_suspect_that_has_its_last_trial(database: Database) -> None:
    await database.fetch(
        "UPDATE tasks SET claims = $1 WHERE id = (SELECT min(id) FROM tasks)", MOST - 1
    )
    (mine,) = await all_suspects(database, FIRST)
    assert await suspect(database, FIRST) == []

    step = Step(seq=Seq(2), body=EventApplied(event_type="data", payload={}, source="s"))
    await journal(database, [Entry(key=mine.key, epoch=mine.epoch, seq=Seq(2), steps=(step,))])

    # It made a step: it is none any more, and others may follow.
    assert mine.key not in {task.key for task in await all_suspects(database, FIRST)}
    assert await upkeep.quarantine(database, max_claims=MOST, dead_letters="dead") == 0


async def test_a_suspect_whose_worker_died_of_something_else_is_tried_again(
    database: Database,
) -> None:
    for _ in range(MOST - SHARED):
        (mine,) = await suspect(database, FIRST)
        assert await upkeep.quarantine(database, max_claims=MOST, dead_letters="dead") == 0
        await claims.release(database, FIRST, [mine], delay=timedelta())
        await database.fetch(FIRST_IN_LINE, mine.key)

    assert await upkeep.quarantine(database, max_claims=MOST, dead_letters="dead") == 1


DIED = """
UPDATE tasks SET status = 'running', owner = $1, claims = $2 WHERE id = (SELECT min(id) FROM tasks)
"""
LEFT = """
SELECT status, reason, extract(epoch FROM run_at - now())::float8 AS seconds
FROM tasks ORDER BY id LIMIT 1
"""
A_LEASE = timedelta(seconds=8)


@pytest.mark.parametrize("is_back", [True, False], ids=["back-under-its-name", "silent"])
@pytest.mark.parametrize(("times", "pause"), [(2, 1), (3, 3), (4, 9)])
async def test_a_task_whose_workers_died_waits_longer_each_time(
    database: Database, times: int, pause: int, *, is_back: bool
) -> None:
    """One worker dies after the other of something else: trials at once would all fall into it."""
    dead = await workers.register(database, "dies")
    await database.fetch(DIED, dead, times)
    if is_back:
        await workers.register(database, "dies")
    else:
        await workers.leave(database, dead)
        until = datetime.now(UTC) + timedelta(hours=1)
        assert await claims.reap(database, lease=A_LEASE, until=until) == 1

    left = await database.fetch_one(LEFT)
    assert left is not None
    assert (left["status"], left["seconds"]) == ("waiting", pytest.approx(pause, abs=0.9))
    assert left["reason"] == "a pause, after workers that died with it"
    next_timer = await claims.wake_due(database)
    assert next_timer is not None
    assert next_timer.total_seconds() == pytest.approx(pause, abs=0.9)


async def test_a_task_of_which_one_worker_died_goes_on_at_once(database: Database) -> None:
    await database.fetch(DIED, await workers.register(database, "dies"), 1)

    me = await workers.register(database, "dies")

    assert len(await claims.claim(database, me, limit=9, shared_claims=SHARED, weights={})) == 1


async def test_a_task_is_set_aside_when_its_pause_is_over(database: Database) -> None:
    """Until then a worker that only stood still may come back."""
    await database.fetch(DIED, await workers.register(database, "dies"), MOST)
    await workers.register(database, "dies")

    assert await upkeep.quarantine(database, max_claims=MOST, dead_letters="dead") == 0
    await database.fetch("UPDATE tasks SET run_at = now() WHERE claims = $1", MOST)
    assert await upkeep.quarantine(database, max_claims=MOST, dead_letters="dead") == 1


async def claims_of_first(database: Database) -> int:
    row = await database.fetch_one("SELECT claims FROM tasks ORDER BY id LIMIT 1")
    assert row is not None
    return int(row["claims"])


@pytest.mark.parametrize("status", ["ready", "waiting", "running"])
async def test_a_claim_that_its_worker_outlived_does_not_count(
    database: Database, status: str
) -> None:
    (mine,) = await suspect(database, FIRST)
    await database.fetch("UPDATE tasks SET epoch = epoch + 1, status = $1", status)

    assert await claims.outlived(database, [mine]) == 1
    assert await claims_of_first(database) == SHARED


async def test_a_claim_counts_while_its_worker_has_the_task(database: Database) -> None:
    (mine,) = await suspect(database, FIRST)

    assert await claims.outlived(database, [mine]) == 0
    assert await claims_of_first(database) == SHARED + 1


async def test_a_task_that_is_over_forgets_no_claim(database: Database) -> None:
    (mine,) = await suspect(database, FIRST)
    await database.fetch("UPDATE tasks SET epoch = epoch + 1, status = 'quarantined'")

    assert await claims.outlived(database, [mine]) == 0


async def test_a_worker_that_comes_back_waits_for_no_lock(
    database: Database, database_url: str
) -> None:
    """It has no lease until its claims are told: one open transaction must not keep it out."""
    (mine,) = await suspect(database, FIRST)
    await database.fetch("UPDATE tasks SET epoch = epoch + 1, status = 'ready', owner = NULL")
    connection = await asyncpg.connect(database_url)
    async with connection.transaction():
        await connection.execute("SELECT FROM tasks FOR UPDATE")
        assert await claims.outlived(database, [mine]) == 0
    await connection.close()
    assert await claims.outlived(database, [mine]) == 1
