"""A journal that PostgreSQL can't read, or takes too long for, stops its own task alone."""

from collections.abc import Sequence
from typing import Any

from orchestrator.domain.errors import StoreUnavailable
from orchestrator.store import loading
from orchestrator.store.database import Database, Row
from tests.fakes.scripted_caller import ScriptedCaller
from tests.fakes.scripted_planner import ScriptedPlanner, complete
from tests.fakes.workers import Feed, all_reach, reaches, running_worker, task_row


class Damaged(Database):
    """Any load of these tasks fails, at once, as when a row of them is damaged."""

    def __init__(self, database: Database, keys: Sequence[int]) -> None:
        super().__init__(database._options)
        self.keys = set(keys)
        self.loads = 0

    async def fetch(self, sql: str, *args: Any) -> Sequence[Row]:
        if sql == loading.LOAD and self.keys.intersection(args[0]):
            self.loads += 1
            raise StoreUnavailable("PostgreSQL: missing chunk number 0 for toast value (XX001)")
        return await super().fetch(sql, *args)


async def test_a_task_that_cannot_be_loaded_keeps_no_other_waiting_and_is_set_aside(
    database: Database, feed: Feed
) -> None:
    await feed.send([feed.new_task(f"t-{n}") for n in range(12)])
    damaged = Damaged(database, [(await task_row(database, f"t-{n}"))["id"] for n in (3, 7)])
    await damaged.open()
    planner = ScriptedPlanner(complete())
    async with running_worker(
        damaged, planner=planner, caller=ScriptedCaller(), max_claims=2
    ) as worker:
        await all_reach(database, "completed", tasks=10, seconds=20)
        await feed.task("next", to=worker)
        await reaches(database, "next", "completed")
        await all_reach(database, "quarantined", tasks=2, seconds=40)
    await damaged.close()
