"""Waits that an end cuts short."""

import asyncio


async def rest(seconds: float, *, until: asyncio.Event) -> None:
    """Sleeps; ends at once when `until` is set."""
    try:
        async with asyncio.timeout(seconds):
            await until.wait()
    except TimeoutError:
        return
