"""Questions to PostgreSQL that wait until it is there: an outage is no fault of who asks."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from orchestrator.domain.errors import StoreUnavailable

T = TypeVar("T")

FIRST_SECONDS, MAX_SECONDS = 0.05, 1.0


async def patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """The answer, as soon as there is one; the store says in the log what is missing."""
    seconds = FIRST_SECONDS
    while True:
        try:
            return await ask()
        except StoreUnavailable:
            await asyncio.sleep(seconds * random.uniform(0.5, 1.0))
            seconds = min(seconds * 2, MAX_SECONDS)
