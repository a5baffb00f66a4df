"""A worker takes in what its event loop can deal with; what only waits for others is no burden."""

import asyncio
import time
from datetime import timedelta

from orchestrator.domain.decision import Turn
from orchestrator.domain.snapshot import Snapshot
from orchestrator.engine.claimer import PIECE
from orchestrator.store.database import Database
from tests.fakes.bus import until
from tests.fakes.scripted_caller import ScriptedCaller
from tests.fakes.scripted_planner import ScriptedPlanner, complete
from tests.fakes.workers import Feed, all_reach, engine_options, running_worker

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
