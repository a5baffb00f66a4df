"""When to try again: full jitter, the peer's own wish, and an end."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

MAX_RETRY_AFTER_SECONDS = 3600.0


def clamped(retry_after_seconds: float) -> float:
    """A peer's wish within what may be meant: no time travel, no more than an hour."""
    return min(max(retry_after_seconds, 0.0), MAX_RETRY_AFTER_SECONDS)


def half_jitter(seconds: float, random: Callable[[], float]) -> float:
    """Spreads a crowd over the second half of the time."""
    return seconds * (0.5 + random() / 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Attempts and the delays between them, in seconds."""

    max_attempts: int = 5
    base_seconds: float = 0.5
    cap_seconds: float = 60.0

    def delay_seconds(
        self,
        attempt: int,
        *,
        retry_after_seconds: float | None = None,
        is_limited: bool = False,
        random: Callable[[], float],
    ) -> float:
        """The wait after failed attempt number `attempt` (from 1).

        Full jitter spreads a crowd over the whole interval. Where the peer named a time, jitter
        goes on top: spreading below it would send everyone back too early. A peer that has enough
        and names no time gets half the interval at least: full jitter would fall to nothing.
        """
        ceiling = self.ceiling_seconds(attempt)
        if retry_after_seconds is not None:
            return clamped(retry_after_seconds) + random() * self.base_seconds
        return half_jitter(ceiling, random) if is_limited else random() * ceiling

    def ceiling_seconds(self, attempt: int) -> float:
        """The longest wait after failed attempt number `attempt`, where the peer named none."""
        # Far above what any cap leaves, and far below where a float overflows.
        doublings = min(max(attempt - 1, 0), 64)
        return min(self.cap_seconds, self.base_seconds * 2.0**doublings)

    def next_attempt_at(
        self,
        attempt: int,
        *,
        now: datetime,
        retry_after_seconds: float | None,
        is_limited: bool = False,
        random: Callable[[], float],
    ) -> datetime | None:
        """When to try again after failed attempt number `attempt`; None when it was the last."""
        if attempt >= self.max_attempts:
            return None
        delay = self.delay_seconds(
            attempt, retry_after_seconds=retry_after_seconds, is_limited=is_limited, random=random
        )
        return now + timedelta(seconds=delay)
