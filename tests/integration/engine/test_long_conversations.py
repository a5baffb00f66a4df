"""A long conversation goes on after a crash, and what it writes grows with its turns alone."""

from collections.abc import Sequence
from typing import Any

from orchestrator.engine.options import TaskLimits
from orchestrator.store.database import Database, Row
from orchestrator.store.journal import JOURNAL
from tests.fakes.bus import until
from tests.fakes.scripted_caller import AGENTS, ScriptedCaller, says, success
from tests.fakes.scripted_planner import ScriptedPlanner, complete, delegate
from tests.fakes.workers import Feed, kinds, reaches, start_worker

CALLS = 100
RESULT = "x" * 5_000


class Weighing(Database):
    """Counts the characters of JSON that the journal writes: contexts, steps and changes."""

    def __init__(self, database: Database) -> None:
        super().__init__(database._options)
        self.written = 0

    async def fetch(self, sql: str, *args: Any) -> Sequence[Row]:
        if sql == JOURNAL:
            texts = [*args[3], *args[12], *args[13]]
            self.written += sum(len(text) for text in texts if text)
        return await super().fetch(sql, *args)


async def test_a_conversation_of_100_calls_goes_on_after_a_crash_and_writes_at_most_twice_itself(
    database: Database, feed: Feed
) -> None:
    weighing = Weighing(database)
    await weighing.open()
    agent = AGENTS[0].id
    caller = ScriptedCaller(**{agent: says(success(text=RESULT))})
    planner = ScriptedPlanner(*[delegate(agent)] * CALLS, complete())
    limits = TaskLimits(max_steps=3 * CALLS)
    first = await start_worker(weighing, planner=planner, caller=caller, limits=limits)
    await feed.task("t", to=first.worker)
    await until(lambda: planner.asks.total() >= 53, seconds=60, what="53 turns")
    await first.kill()
    second = await start_worker(weighing, planner=planner, caller=caller, limits=limits)
    await reaches(database, "t", "completed", seconds=60)
    await second.stop()
    await weighing.close()
    assert (await kinds(database, "t")).count("result") == CALLS
    assert weighing.written <= 2 * CALLS * len(RESULT)
