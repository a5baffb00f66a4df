"""So many calls at once, so many a second, and when those who find no room look again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from orchestrator.domain.agent import Limits

LONGEST_TURN_SECONDS = 60.0


@dataclass(slots=True, kw_only=True)
class Pace:
    """Spaces calls evenly, `interval_seconds` apart (GCRA with a burst of one)."""

    interval_seconds: float
    _next_at: float = field(default=float("-inf"))

    def reserve(self, now: float, *, at_most_seconds: float) -> float | None:
        """How long to wait before the call; None, and nothing reserved, if that is too long."""
        at = max(now, self._next_at)
        if at - now > at_most_seconds:
            return None
        self._next_at = at + self.interval_seconds
        return at - now

    def delay_seconds(self, now: float) -> float:
        """The wait that a call would have now."""
        return max(0.0, self._next_at - now)


@dataclass(slots=True)
class Turns:
    """When each of those who found no room looks again: one after the other, not all at once."""

    _last_at: float = float("-inf")

    def next_seconds(self, now: float, *, first: float, apart: float) -> float:
        """The wait of one more, `first` at least; bounded, so that a wrong guess is soon mended."""
        at = max(now + first, self._last_at + apart)
        self._last_at = min(at, now + max(first, LONGEST_TURN_SECONDS))
        return self._last_at - now


class Gate:
    """One target's slots and pace; made anew when its limits change."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._slots = asyncio.Semaphore(limits.concurrency)
        self._waiting = 0
        rate = limits.rate_per_second
        self.pace = None if rate is None else Pace(interval_seconds=1 / rate)

    @asynccontextmanager
    async def slot(self, *, wait_seconds: float, call_seconds: float) -> AsyncIterator[bool]:
        """A slot while the block runs; false where none came free in time.

        Who waits takes room from other tasks, so only those wait who are likely to get their turn
        in time when a call takes `call_seconds`; at the most one for each slot, if it is slow.
        """
        likely = self.limits.concurrency * max(1.0, wait_seconds / max(call_seconds, 1e-6))
        is_mine = await self._take(wait_seconds if self._waiting < likely else 0)
        try:
            yield is_mine
        finally:
            if is_mine:
                self._slots.release()

    async def _take(self, wait_seconds: float) -> bool:
        if not self._slots.locked():
            return await self._slots.acquire()
        if wait_seconds <= 0:
            return False
        self._waiting += 1
        try:
            async with asyncio.timeout(wait_seconds):
                return await self._slots.acquire()
        except TimeoutError:
            return False
        finally:
            self._waiting -= 1
