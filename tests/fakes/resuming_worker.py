"""A worker in a process of its own that ends every task which is ready, and says what it took.

`python -m tests.fakes.resuming_worker DATABASE_URL TASKS MAX_LOADED_BYTES`
"""

import asyncio
import resource
import sys

from orchestrator.domain.decision import Turn
from orchestrator.domain.snapshot import Snapshot
from orchestrator.store.database import Database, DatabaseOptions
from tests.fakes.scripted_caller import ScriptedCaller
from tests.fakes.scripted_planner import complete
from tests.fakes.workers import all_reach, running_worker


class Forgetful:
    """A planner that takes its time and, unlike the scripted one, keeps nothing of what it saw."""

    async def plan(self, snapshot: Snapshot) -> Turn:
        assert snapshot.steps
        await asyncio.sleep(0.3)
        return Turn(decision=complete())


def peak() -> int:
    """The most memory that this process ever had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


async def main(url: str, tasks: int, max_loaded_bytes: int) -> None:
    database = Database(DatabaseOptions(url=url, pool_size=4))
    await database.open()
    before = peak()
    async with running_worker(
        database, planner=Forgetful(), caller=ScriptedCaller(), max_loaded_bytes=max_loaded_bytes
    ):
        await all_reach(database, "completed", tasks=tasks, seconds=60 + tasks / 2)
    await database.close()
    sys.stdout.write(f"{peak() - before}\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
