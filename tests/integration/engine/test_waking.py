"""Waiting costs nothing, and ends the moment that something comes."""

import asyncio
import statistics
import time
from datetime import timedelta
from typing import Any

import pytest

from orchestrator.domain.decision import Turn, Wait
from orchestrator.domain.snapshot import Snapshot
from orchestrator.engine.pace import FIRST_PIECE
from orchestrator.store.database import Database
from tests.fakes.bus import until
from tests.fakes.scripted_caller import ScriptedCaller
from tests.fakes.scripted_planner import ScriptedPlanner, complete
from tests.fakes.workers import (
    Feed,
    all_reach,
    cancel,
    reaches,
    running_worker,
    start_worker,
    task_row,
)

WAITS = Wait(waiting_for="more")
RARELY = timedelta(seconds=30)
"""Between two looks, so that only a wake-up can be quick."""


async def test_waiting_task_costs_a_row_and_nothing_else(database: Database, feed: Feed) -> None:
    planner = ScriptedPlanner(WAITS)
    async with running_worker(database, planner=planner, caller=ScriptedCaller()) as worker:
        await feed.task("first", to=worker)
        await reaches(database, "first", "waiting")
        coroutines = len(asyncio.all_tasks())
        await feed.send([feed.new_task(f"t-{n}") for n in range(200)], to=worker)
        await all_reach(database, "waiting", tasks=201)
        await until(lambda: (worker.running, worker.room() > 0) == (0, True), seconds=5)
        await until(lambda: len(asyncio.all_tasks()) <= coroutines, seconds=5)
    assert (await task_row(database, "t-7"))["owner"] is None


class Stopwatch:
    """Remembers when the planner was asked, and lets the task wait each time."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def __call__(self, _snapshot: Snapshot) -> Turn:
        self.asked.set()
        return Turn(decision=WAITS)


@pytest.mark.parametrize("is_claimed_by_ingest", [True, False], ids=["by-ingest", "by-notice"])
async def test_event_wakes_a_waiting_task_within_100_ms(
    database: Database, feed: Feed, is_claimed_by_ingest: bool
) -> None:
    watch, took = Stopwatch(), []
    planner = ScriptedPlanner(*[watch] * 12)
    async with running_worker(
        database, planner=planner, caller=ScriptedCaller(), poll=RARELY
    ) as worker:
        await feed.task("t", to=worker)
        for _ in range(10):
            await reaches(database, "t", "waiting")
            watch.asked.clear()
            began = time.monotonic()
            await feed.event("t", to=worker if is_claimed_by_ingest else None)
            worker.wake()
            await asyncio.wait_for(watch.asked.wait(), 5)
            took.append(time.monotonic() - began)
    assert statistics.median(took) <= 0.1, took


async def test_event_that_comes_while_a_task_goes_to_rest_is_not_slept_through(
    database: Database, feed: Feed
) -> None:
    async def wait_while_an_event_comes(_: Snapshot) -> Turn:
        await feed.event("t", payload={"answer": 42})
        return Turn(decision=WAITS)

    planner = ScriptedPlanner(wait_while_an_event_comes, complete())
    async with running_worker(
        database, planner=planner, caller=ScriptedCaller(), poll=RARELY
    ) as worker:
        await feed.task("t", to=worker)
        row = await reaches(database, "t", "completed", seconds=5)
    assert row["context"]["event_data"] == {"answer": 42}


async def test_wait_ends_when_its_time_comes(database: Database, feed: Feed) -> None:
    async def wait_shortly(snapshot: Snapshot) -> Turn:
        until = snapshot.steps[-1].at
        assert until is not None
        return Turn(decision=Wait(waiting_for="x", until=until + timedelta(seconds=0.3)))

    planner = ScriptedPlanner(wait_shortly, complete())
    async with running_worker(database, planner=planner, caller=ScriptedCaller()) as worker:
        await feed.task("t", to=worker)
        row = await reaches(database, "t", "completed")
    assert row["finished_at"] - row["created_at"] >= timedelta(seconds=0.3)


async def test_task_left_for_want_of_room_is_run_when_there_is_room(
    database: Database, feed: Feed
) -> None:
    planner = ScriptedPlanner(complete())
    async with running_worker(
        database, planner=planner, caller=ScriptedCaller(), concurrency=2, poll=RARELY
    ) as worker:
        await feed.send([feed.new_task(f"t-{n}") for n in range(20)], to=worker)
        await all_reach(database, "completed", tasks=20, seconds=10)


async def think_for_ever(_: Snapshot) -> Turn:
    await asyncio.Event().wait()
    raise AssertionError


@pytest.mark.parametrize("comes_back", [True, False], ids=["restarts", "stops"])
async def test_tasks_that_a_worker_left_behind_are_others_at_once(
    database: Database, feed: Feed, comes_back: bool
) -> None:
    stuck, done = ScriptedPlanner(think_for_ever), ScriptedPlanner(complete())
    more: dict[str, Any] = {"caller": ScriptedCaller(), "poll": RARELY, "lease": RARELY}
    async with running_worker(database, planner=done, worker_name="other", **more) as other:
        more["left_ready"] = other.wake
        first = await start_worker(database, planner=stuck, **more)
        # As many as it takes in at once: the other one is not to have any before.
        await feed.send([feed.new_task(f"t-{n}") for n in range(FIRST_PIECE)], to=first.worker)
        await all_reach(database, "running", tasks=FIRST_PIECE)
        if comes_back:
            await first.kill()
            # With room for one task, and no thought to spare for it.
            first = await start_worker(database, planner=stuck, concurrency=1, **more)
        else:
            await first.stop(grace_seconds=0.1)

        async def are_done() -> bool:
            rows = await database.fetch("SELECT FROM tasks WHERE status = 'completed'")
            return len(rows) >= (FIRST_PIECE - 1 if comes_back else FIRST_PIECE)

        await until(are_done, seconds=10)
        await first.kill()


async def test_messages_are_applied_in_their_order(database: Database, feed: Feed) -> None:
    planner = ScriptedPlanner(WAITS, WAITS, WAITS, complete())
    async with running_worker(database, planner=planner, caller=ScriptedCaller()) as worker:
        await feed.task("t", to=worker)
        await reaches(database, "t", "waiting")
        await feed.send([feed.new_event("t", payload={"n": n}) for n in range(50)], to=worker)
        row = await reaches(database, "t", "waiting")
        await cancel(database, row["task_id"], reason="enough")
        worker.wake()
        row = await reaches(database, "t", "cancelled")
    assert row["context"]["event_data"] == {"n": 49}
