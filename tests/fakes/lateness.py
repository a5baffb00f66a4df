"""By how much the event loop is late: what keeps it keeps heartbeats, too."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

TICK_SECONDS = 0.01


@asynccontextmanager
async def lateness() -> AsyncIterator[list[float]]:
    """Of each tick within the block, in seconds."""
    late: list[float] = []

    async def tick() -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(TICK_SECONDS)
            late.append(time.monotonic() - before - TICK_SECONDS)

    ticking = asyncio.create_task(tick(), name="ticks")
    try:
        yield late
    finally:
        ticking.cancel()
        with suppress(asyncio.CancelledError):
            await ticking
