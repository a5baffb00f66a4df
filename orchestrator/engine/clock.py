"""PostgreSQL's time, known without asking: a worker whose own clock is wrong must not matter."""

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta


def boot_seconds() -> float:
    """Seconds of a clock that goes on while the machine sleeps; `monotonic` stops on Linux then."""
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class Clock:
    """Set by each heartbeat, read by everyone in the worker.

    Between two heartbeats it counts `seconds`, which nobody sets: a wall clock that jumps, by an
    operator's or a time service's hand, moves no deadline and no retry.
    """

    def __init__(
        self,
        *,
        seconds: Callable[[], float] = boot_seconds,
        cpu_seconds: Callable[[], float] = time.process_time,
    ) -> None:
        self.seconds = seconds
        self.cpu_seconds = cpu_seconds
        """What this process used of the processor."""
        self._set_to: datetime | None = None
        self._set_at = 0.0

    def set(self, now: datetime, *, elapsed_seconds: float) -> None:
        """`now` is PostgreSQL's time of a statement that took `elapsed_seconds` to come back."""
        self._set_to = now + timedelta(seconds=elapsed_seconds / 2)
        self._set_at = self.seconds()

    def now(self) -> datetime:
        """Aware UTC."""
        if self._set_to is None:
            return datetime.now(UTC)
        return self._set_to + timedelta(seconds=self.seconds() - self._set_at)
