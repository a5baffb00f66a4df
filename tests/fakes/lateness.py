"""How long the event loop is kept from a timer: what keeps it keeps heartbeats, too.

In seconds of its own thread on the processor: a machine that stands still keeps nobody's loop.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

TICK_SECONDS = 0.01


@asynccontextmanager
async def lateness() -> AsyncIterator[list[float]]:
    """Of each tick within the block."""
    late: list[float] = []

    async def tick() -> None:
        while True:
            before = time.thread_time()
            await asyncio.sleep(TICK_SECONDS)
            late.append(time.thread_time() - before)

    ticking = asyncio.create_task(tick(), name="ticks")
    try:
        yield late
    finally:
        ticking.cancel()
        with suppress(asyncio.CancelledError):
            await ticking
