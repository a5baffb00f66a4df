"""A worker that has nothing to do does next to nothing."""

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from time import monotonic
from typing import Any

from orchestrator.store import workers
from orchestrator.store.database import Database, Row
from tests.fakes.bus import until
from tests.fakes.scripted_caller import ScriptedCaller
from tests.fakes.scripted_planner import ScriptedPlanner
from tests.fakes.workers import running_worker

A_MINUTE = 220
"""Statements of a worker with a lease of 10 s; a third are looks for dead workers."""


class Counting(Database):
    def __init__(self, database: Database) -> None:
        super().__init__(database._options)
        self.statements: Counter[str] = Counter()

    async def fetch(self, sql: str, *args: Any) -> Sequence[Row]:
        self.statements[sql] += 1
        return await super().fetch(sql, *args)


async def test_an_idle_worker_asks_postgresql_for_next_to_nothing(database: Database) -> None:
    counting = Counting(database)
    await counting.open()
    quiet = {"lease": timedelta(seconds=10), "poll": timedelta(seconds=1)}
    async with running_worker(
        counting, planner=ScriptedPlanner(), caller=ScriptedCaller(), **quiet
    ):
        await until(lambda: counting.statements[workers.HEARTBEAT] >= 4, seconds=30)
        counting.statements.clear()
        began = monotonic()
        await until(lambda: counting.statements[workers.HEARTBEAT] >= 5, seconds=30)
        a_minute = counting.statements.total() * 60 / (monotonic() - began)
    await counting.close()
    assert a_minute <= A_MINUTE, counting.statements.most_common(8)
