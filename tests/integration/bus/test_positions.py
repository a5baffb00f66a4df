"""Whatever comes of a statement, and in whatever order, a position never passes unfinished work."""

import random
from collections.abc import Sequence
from typing import Any

from orchestrator.bus.options import BusOptions
from orchestrator.domain.errors import StoreUnavailable
from orchestrator.store.database import Database, Row
from orchestrator.store.ingest import INGEST
from tests.fakes.bus import running_consumer, until
from tests.integration.bus.rows import count, one, publish_tasks

TASKS = 600

STORED = """
SELECT (SELECT coalesce(sum(next_offset), 0) FROM kafka_positions) AS passed,
       (SELECT count(*) FROM inbox) AS stored
"""


class Doubtful(Database):
    """Of half the batches nobody hears what became of them: they were written, or they were not."""

    def __init__(self, database: Database) -> None:
        super().__init__(database._options)
        self._dice = random.Random(7)
        self.doubts = 0

    async def fetch(self, sql: str, *args: Any) -> Sequence[Row]:
        chance = self._dice.random() if sql == INGEST else 1.0
        if chance < 0.25:
            self.doubts += 1
            raise StoreUnavailable("cut off before")
        rows = await super().fetch(sql, *args)
        if chance < 0.5:
            self.doubts += 1
            raise StoreUnavailable("cut off after")
        return rows


async def test_the_position_never_passes_unfinished_work(
    database: Database, options: BusOptions
) -> None:
    doubtful = Doubtful(database)
    await doubtful.open()

    async def all_are_stored() -> bool:
        row = await one(database, STORED)
        assert row["passed"] == row["stored"]
        return bool(row["stored"] == TASKS)

    async with running_consumer(doubtful, options):
        for part in range(6):
            await publish_tasks(options, [f"t{part}-{n}" for n in range(TASKS // 6)])
        await until(all_are_stored, seconds=60)
    await doubtful.close()
    assert doubtful.doubts > 0
    assert await count(database, "steps") == TASKS
