"""What intake needs around it: an engine that only counts, and waiting for a condition."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from orchestrator.bus.consumer import Consumer
from orchestrator.bus.ingest import Engine
from orchestrator.bus.options import BusOptions, Topics
from orchestrator.domain.ids import WorkerId
from orchestrator.store.database import Database
from orchestrator.store.ingest import Ingested

DEADLINE_SECONDS = 30.0
STANDSTILL_SECONDS = 0.25
"""What one look may cost, unless our own thread used the processor for longer."""


@dataclass
class CountingEngine:
    """Says what it is told to say, and keeps what it hears."""

    worker: WorkerId = WorkerId(1)  # noqa: RUF009 - a NewType of int
    room: int = 0
    reject_more: bool = False
    ingested: list[Ingested] = field(default_factory=list)

    def as_engine(self) -> Engine:
        return Engine(
            worker=lambda: self.worker,
            room=lambda: self.room,
            ingested=self.ingested.append,
            reject_more=lambda: self.reject_more,
        )


def bus_options(bootstrap_servers: str, prefix: str) -> BusOptions:
    """Topics and a group of the test's own; small, and quick to see a dead member."""
    return BusOptions(
        bootstrap_servers=bootstrap_servers,
        group_id=f"{prefix}group",
        topics=Topics(
            tasks=f"{prefix}tasks",
            events=f"{prefix}events",
            task_updates=f"{prefix}task-updates",
            dead_letters=f"{prefix}dead-letters",
        ),
        partitions=3,
        session_timeout_seconds=6.0,
        request_timeout_seconds=10.0,
    )


@asynccontextmanager
async def running_consumer(
    database: Database, options: BusOptions, engine: CountingEngine | None = None
) -> AsyncIterator[Consumer]:
    """Reads while the block runs; what it raised is raised at the end."""
    consumer = Consumer(database, options, engine=(engine or CountingEngine()).as_engine())
    task = asyncio.create_task(consumer.run(), name="consumer")
    try:
        yield consumer
    finally:
        consumer.stop()
        await task


async def until(
    condition: Callable[[], Awaitable[bool]] | Callable[[], bool],
    *,
    seconds: float = DEADLINE_SECONDS,
    what: str = "the condition",
) -> None:
    """Waits for a condition; fails when it does not come true in time.

    A machine that stands still for seconds costs one look, not all of them.
    """
    most = max(STANDSTILL_SECONDS, seconds / 10)
    waited, at, used = 0.0, time.monotonic(), time.thread_time()
    while True:
        found = condition()
        if found if isinstance(found, bool) else await found:
            return
        if waited > seconds:
            raise AssertionError(f"{what} did not come true within {seconds} s")
        await asyncio.sleep(0.02)
        waited += max(min(time.monotonic() - at, most), time.thread_time() - used)
        at, used = time.monotonic(), time.thread_time()
