"""Whether this worker may still act: its own heartbeat says so, before others say it does not.

PostgreSQL fences every write by epoch, but nothing there can fence an HTTP call. So a worker that
could not prove its life for a while sends nothing any more, before its tasks can have a new owner.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta

from orchestrator.engine.clock import boot_seconds


class Lease:
    """Renewed by the heartbeat loop alone; runners ask it before each call."""

    def __init__(
        self,
        fence: timedelta,
        *,
        seconds: Callable[[], float] = boot_seconds,
        cpu_seconds: Callable[[], float] = time.process_time,
    ) -> None:
        self.seconds = seconds
        """The clock by which it counts."""
        self._cpu_seconds = cpu_seconds
        self._renewed_at = (seconds(), cpu_seconds())
        """By both clocks."""
        self._fence_seconds = fence.total_seconds()
        self._proven_at = float("-inf")
        self._regained_at = float("-inf")
        self._renewed = asyncio.Event()

    def renew(self, sent_at: float) -> None:
        """A heartbeat that was sent at `sent_at` (boot seconds) succeeded."""
        if self._proven_at > float("-inf") and not self.is_held():
            self._regained_at = self.seconds()
        self._proven_at = max(self._proven_at, sent_at)
        if self.is_held():  # else the answer came late: the silence goes on
            self._renewed_at = (self.seconds(), self._cpu_seconds())
        self._renewed.set()

    def drop(self) -> None:
        """Others have taken over."""
        self._proven_at = float("-inf")

    def stood_still(self) -> bool:
        """Whether the silence until now, a fence at least, was not this process's own doing.

        It was frozen, or without PostgreSQL; a task that keeps the processor busy would be seen.
        """
        seconds, cpu = self._renewed_at
        silence = self.seconds() - seconds
        return silence >= self._fence_seconds and self._cpu_seconds() - cpu < silence / 3

    @property
    def age_seconds(self) -> float:
        return self.seconds() - self._proven_at

    def is_held(self) -> bool:
        """Whether a call may go out; to be asked without awaiting anything before the send."""
        return self.age_seconds < self._fence_seconds

    def is_steady(self, span: timedelta) -> bool:
        """Whether it is held, and was not lapsed for a moment within the last `span`."""
        return self.is_held() and self.seconds() - self._regained_at >= span.total_seconds()

    async def held(self) -> None:
        """Returns at once while the lease is held, else when it is again.

        A lease comes back only after the worker has compared its tasks with PostgreSQL, so whoever
        still waits here still owns its task.
        """
        while not self.is_held():
            self._renewed.clear()
            await self._renewed.wait()
