"""A worker takes in what its event loop can deal with; what only waits for others is no burden."""

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Any

from orchestrator.domain.decision import Turn
from orchestrator.domain.snapshot import Snapshot
from orchestrator.engine.pace import FIRST_PIECE, PIECE
from orchestrator.store.claims import CLAIM
from orchestrator.store.database import Database, Row
from tests.fakes.bus import until
from tests.fakes.scripted_caller import ScriptedCaller
from tests.fakes.scripted_planner import ScriptedPlanner, complete
from tests.fakes.workers import Feed, all_reach, engine_options, running_worker, task_row

TASKS = 200
BLOCKS_SECONDS = 0.02


class Thinking:
    """A model that answers when the test lets it."""

    def __init__(self) -> None:
        self.answers = asyncio.Event()

    async def __call__(self, _: Snapshot) -> Turn:
        await self.answers.wait()
        return Turn(decision=complete())


async def test_tasks_that_wait_for_the_model_are_all_taken_in_at_once(
    database: Database, feed: Feed
) -> None:
    model = Thinking()
    await feed.send([feed.new_task(f"t-{n}") for n in range(TASKS)])
    async with running_worker(
        database, planner=ScriptedPlanner(model), caller=ScriptedCaller()
    ) as worker:
        await until(lambda: worker.running == TASKS, seconds=3)
        model.answers.set()
        await all_reach(database, "completed", tasks=TASKS)


async def test_a_suspect_that_thinks_for_long_holds_the_others_up_for_a_second_at_most(
    database: Database, feed: Feed
) -> None:
    """Nobody gives notice, and no look comes by itself."""
    model = Thinking()
    await feed.task("suspect")
    await database.fetch("UPDATE tasks SET claims = $1", engine_options().shared_claims)
    async with running_worker(
        database,
        planner=ScriptedPlanner(model),
        caller=ScriptedCaller(),
        poll=timedelta(seconds=30),
    ) as worker:
        await until(lambda: worker.running == 1, seconds=3)
        await feed.send([feed.new_task(f"t-{n}") for n in range(3)])
        worker.wake()
        await until(lambda: worker.running == 4, seconds=3)
        model.answers.set()
        await all_reach(database, "completed", tasks=4)


class Watched(Database):
    """Keeps how many tasks each claim took."""

    def __init__(self, database: Database) -> None:
        super().__init__(database._options)
        self.pieces: list[int] = []

    async def fetch(self, sql: str, *args: Any) -> Sequence[Row]:
        rows = await super().fetch(sql, *args)
        if sql == CLAIM and rows:
            self.pieces.append(len(rows))
        return rows


async def test_after_a_standstill_a_worker_takes_in_a_few_and_then_ever_more(
    database: Database, feed: Feed
) -> None:
    """All that waited comes at once; a worker that dies leaves as many calls to be made again."""
    model, watched = Thinking(), Watched(database)
    await watched.open()
    async with running_worker(
        watched, planner=ScriptedPlanner(model), caller=ScriptedCaller()
    ) as worker:
        await until(lambda: worker.room() == FIRST_PIECE)
        await feed.send([feed.new_task(f"t-{n}") for n in range(TASKS)], to=worker)
        assert worker.running == FIRST_PIECE
        await until(lambda: worker.running == TASKS)
        model.answers.set()
        await all_reach(database, "completed", tasks=TASKS)
        await until(lambda: worker.room() == FIRST_PIECE)
    await watched.close()
    assert watched.pieces[0] <= 2 * FIRST_PIECE
    assert max(watched.pieces) == PIECE
    assert all(after <= 2 * before for before, after in pairwise(watched.pieces))


class Busy:
    """What keeps the event loop late until it is told to stop."""

    def __init__(self) -> None:
        self.is_on = True

    def __call__(self) -> None:
        if self.is_on:
            time.sleep(0.1)  # words: what is tested
            asyncio.get_running_loop().call_later(0.01, self)


async def test_a_suspect_is_not_tried_while_the_processor_is_busy_with_something_else(
    database: Database, feed: Feed
) -> None:
    """Its trial would last long, and its worker may die of something else meanwhile."""
    busy = Busy()
    await feed.task("suspect")
    await database.fetch("UPDATE tasks SET claims = $1", engine_options().shared_claims)
    async with running_worker(
        database, planner=ScriptedPlanner(complete()), caller=ScriptedCaller()
    ) as worker:
        busy()
        await feed.send([feed.new_task(f"t-{n}") for n in range(3)])
        worker.wake()
        await all_reach(database, "completed", tasks=3)
        assert (await task_row(database, "suspect"))["status"] == "ready"
        busy.is_on = False
        await all_reach(database, "completed", tasks=4, seconds=5)


async def test_a_loop_that_is_busy_with_what_it_has_takes_in_no_more(
    database: Database, feed: Feed
) -> None:
    most = 0

    async def keeps_the_loop_busy(_: Snapshot) -> Turn:
        nonlocal most
        most = max(most, worker.running)
        time.sleep(BLOCKS_SECONDS)  # noqa: ASYNC251 # words: what is tested
        return Turn(decision=complete())

    await feed.send([feed.new_task(f"t-{n}") for n in range(TASKS)])
    async with running_worker(
        database, planner=ScriptedPlanner(keeps_the_loop_busy), caller=ScriptedCaller()
    ) as worker:
        await all_reach(database, "completed", tasks=TASKS)
    assert most <= 5 * PIECE  # some wait for their commit
