"""What has only to end, and a tenant's first task, wait for no queue and for no place."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest_asyncio

from orchestrator.domain.decision import Wait
from orchestrator.engine.running import BESIDE
from orchestrator.store.database import Database
from tests.fakes.bus import until
from tests.fakes.scripted_caller import ScriptedCaller
from tests.fakes.scripted_planner import Hanging, ScriptedPlanner, complete, slow
from tests.fakes.workers import Feed, RunningWorker, cancel, reaches, start_worker

BACKLOG = 600
MOST_SECONDS = 1.0


@pytest_asyncio.fixture
async def full(database: Database, feed: Feed) -> AsyncIterator[RunningWorker]:
    """A worker all of whose places are held by turns of one tenant that never end."""
    started = await start_worker(
        database, planner=ScriptedPlanner(Hanging()), caller=ScriptedCaller(), concurrency=2
    )
    for n in range(2):
        await feed.task(f"holds-{n}", tenant="loud", to=started.worker)
    await until(lambda: started.worker.running == 2, what="all places held")
    yield started
    await started.kill()


async def test_a_task_that_waits_for_a_place_is_cancelled_within_a_second(
    database: Database, feed: Feed, full: RunningWorker
) -> None:
    for name in ("by hand", "by event"):
        await feed.task(name, tenant="loud", to=full.worker)
    await cancel(database, "by hand")
    await reaches(database, "by hand", "cancelled", seconds=MOST_SECONDS)
    await feed.event("by event", "cancel", to=full.worker)
    await reaches(database, "by event", "cancelled", seconds=MOST_SECONDS)


async def test_a_deadline_ends_a_task_that_waits_for_a_place(
    database: Database, feed: Feed, full: RunningWorker
) -> None:
    deadline = datetime.now(UTC) + timedelta(seconds=0.5)
    await feed.task("late", tenant="loud", deadline=deadline, to=full.worker)
    row = await reaches(database, "late", "failed", seconds=0.5 + MOST_SECONDS)
    assert row["finished_at"] >= deadline


async def test_a_tenant_without_a_task_here_waits_for_no_place(
    database: Database, feed: Feed, full: RunningWorker
) -> None:
    for n in range(5):
        await feed.task(f"loud-{n}", tenant="loud", to=full.worker)
    for tenant in ("quiet", "calm"):
        await feed.send(
            [feed.new_task(f"{tenant}-{n}", tenant=tenant) for n in range(3)], to=full.worker
        )
        await reaches(database, f"{tenant}-0", "running", seconds=MOST_SECONDS)
    rows = await database.fetch("SELECT tenant FROM tasks WHERE status = 'running'")
    running = Counter(row["tenant"] for row in rows)
    assert running == {"loud": 2, "quiet": 1, "calm": 1}


async def test_places_beside_are_bounded(
    database: Database, feed: Feed, full: RunningWorker
) -> None:
    many = [feed.new_task(f"t-{n}", tenant=f"tenant-{n}") for n in range(2 * BESIDE)]
    await feed.send(many, to=full.worker)
    await until(lambda: full.worker.running == 2 + BESIDE, what="all places beside held")
    await cancel(database, "t-31")
    await asyncio.wait_for(full.worker._claimer.claim_beside(), MOST_SECONDS)
    assert full.worker.running == 2 + BESIDE


async def test_a_place_that_the_queue_leaves_is_the_queues_again(
    database: Database, feed: Feed, full: RunningWorker
) -> None:
    """Who has nothing here does not come first for ever: the others would never have a turn."""
    await feed.task("loud", tenant="loud", to=full.worker)
    many = [feed.new_task(f"t-{n}", tenant=f"tenant-{n}") for n in range(BESIDE)]
    await feed.send(many, to=full.worker)
    await until(lambda: full.worker.running == 2 + BESIDE, what="all places beside held")
    await cancel(database, "holds-0")
    await reaches(database, "loud", "running", seconds=MOST_SECONDS)
    assert full.worker.running == 2 + BESIDE


async def test_a_waiting_task_is_cancelled_past_the_backlog_of_its_tenant(
    database: Database, feed: Feed
) -> None:
    word = Wait(waiting_for="a word")
    planner = ScriptedPlanner(slow(complete(), seconds=0.05), by_task={"waits": (word,)})
    started = await start_worker(database, planner=planner, caller=ScriptedCaller(), concurrency=10)
    try:
        await feed.task("waits", to=started.worker)
        await reaches(database, "waits", "waiting")
        await feed.send([feed.new_task(f"t-{n}") for n in range(BACKLOG)], to=started.worker)
        await until(lambda: started.worker.running >= 10, what="all places held")
        await cancel(database, "waits")
        await reaches(database, "waits", "cancelled", seconds=MOST_SECONDS)
        left = await database.fetch_one("SELECT count(*) n FROM tasks WHERE status = 'ready'")
        assert left is not None
        assert left["n"] > BACKLOG / 2, "the backlog was over before"
    finally:
        await started.kill()
