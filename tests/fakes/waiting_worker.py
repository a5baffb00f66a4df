"""A worker in a process of its own whose tasks all wait for the model at once, and what that costs.

`python -m tests.fakes.waiting_worker DATABASE_URL TASKS` runs the tasks that are ready, and prints
the memory of each in bytes and by how many seconds the event loop was late (99th percentile).
"""

import asyncio
import os
import statistics
import sys
from pathlib import Path

from orchestrator.domain.decision import Turn
from orchestrator.domain.snapshot import Snapshot
from orchestrator.store.database import Database, DatabaseOptions
from tests.fakes.bus import until
from tests.fakes.lateness import lateness
from tests.fakes.scripted_caller import ScriptedCaller
from tests.fakes.workers import start_worker

WATCHED_SECONDS = 2.0


class Silent:
    """A planner that never answers."""

    def __init__(self) -> None:
        self.waiting = 0

    async def plan(self, _: Snapshot) -> Turn:
        self.waiting += 1
        await asyncio.Event().wait()
        raise AssertionError("unreachable")


def memory() -> int:
    """What this process has right now, in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def main(url: str, tasks: int) -> None:
    database = Database(DatabaseOptions(url=url, pool_size=4))
    await database.open()
    planner, before = Silent(), memory()
    started = await start_worker(
        database, planner=planner, caller=ScriptedCaller(), concurrency=tasks
    )
    await until(lambda: planner.waiting == tasks, seconds=120)
    async with lateness() as late:
        await asyncio.sleep(WATCHED_SECONDS)
    longest = statistics.quantiles(late, n=100)[-1]
    sys.stdout.write(f"{(memory() - before) // tasks} {longest:.6f}\n")
    await started.kill()
    await database.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
