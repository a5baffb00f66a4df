"""A worker that has nothing to do costs next to nothing, however many agents it may call."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import pytest_asyncio

from tests.fakes.bus import until
from tests.fakes.worker_process import WorkerProcess
from tests.fixtures.service import Service

AGENTS = 100
A_SECOND = 6.8
"""Transactions of the whole process, a statement each mostly: 4.3 to 4.6 were measured, with this
test's own few. `tests/integration/engine/test_idle.py` counts the engine's statements alone."""
SHARE = 0.05
"""Of a core: 0.008 to 0.010 were measured."""
SETTLING_SECONDS = 12
"""A backend that has nothing to do adds what it did to PostgreSQL's numbers after 10 s only."""
WINDOW_SECONDS = 15
COUNTED = """
SELECT xact_commit + xact_rollback AS transactions,
       extract(epoch FROM clock_timestamp())::float8 AS seconds
FROM pg_stat_database WHERE datname = current_database()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """By a worker, since its start or within a time."""

    transactions: float
    seconds: float
    """Of PostgreSQL's clock."""
    processor_seconds: float

    def since(self, earlier: "Used") -> "Used":
        return Used(
            transactions=self.transactions - earlier.transactions,
            seconds=self.seconds - earlier.seconds,
            processor_seconds=self.processor_seconds - earlier.processor_seconds,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """A service whose only worker has nothing to do."""

    service: Service
    worker: WorkerProcess

    async def used(self) -> Used:
        (row,) = await self.service.observer.rows(COUNTED)
        return Used(
            transactions=row["transactions"],
            seconds=row["seconds"],
            processor_seconds=processor_seconds(self.worker.process.pid),
        )

    async def within(self, seconds: float) -> Used:
        """What it uses from now on, for so long."""
        before, end = await self.used(), time.monotonic() + seconds
        await until(lambda: time.monotonic() >= end, seconds=seconds + 5)
        return (await self.used()).since(before)


def processor_seconds(pid: int) -> float:
    """Of all its threads, in the kernel too."""
    # After the name, which may hold anything: utime and stime are the 14th and 15th field.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest_asyncio.fixture(loop_scope="session")
async def idle(service: Service) -> Idle:
    """Its start is over, and PostgreSQL has counted all of it."""
    for number in range(AGENTS):
        needs, adds = ["name"], [f"field_{number}"]
        service.declare(f"agent-{number}", "http://127.0.0.1:9/", needs=needs, adds=adds)
    idle = Idle(service=service, worker=await service.worker().start())

    await idle.within(SETTLING_SECONDS)
    return idle


async def test_an_idle_worker_with_a_hundred_agents_leaves_postgresql_and_the_processor_alone(
    idle: Idle,
) -> None:
    used = await idle.within(WINDOW_SECONDS)

    assert used.transactions / used.seconds <= A_SECOND
    assert used.processor_seconds / used.seconds <= SHARE
