"""When to try again: full jitter, the peer's own wish, and an end."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

MAX_RETRY_AFTER_SECONDS = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Attempts and the delays between them, in seconds."""

    max_attempts: int = 5
    base_seconds: float = 0.5
    cap_seconds: float = 60.0

    def delay_seconds(
        self, attempt: int, *, retry_after_seconds: float | None, random: Callable[[], float]
    ) -> float:
        """The wait after failed attempt number `attempt` (from 1).

        Full jitter spreads a crowd over the whole interval. Where the peer named a time, jitter
        goes on top: spreading below it would send everyone back too early.
        """
        ceiling = min(self.cap_seconds, self.base_seconds * 2.0 ** (attempt - 1))
        if retry_after_seconds is None:
            return random() * ceiling
        wish = min(max(retry_after_seconds, 0.0), MAX_RETRY_AFTER_SECONDS)
        return wish + random() * self.base_seconds

    def next_attempt_at(
        self,
        attempt: int,
        *,
        now: datetime,
        retry_after_seconds: float | None,
        random: Callable[[], float],
    ) -> datetime | None:
        """When to try again after failed attempt number `attempt`; None when it was the last."""
        if attempt >= self.max_attempts:
            return None
        delay = self.delay_seconds(attempt, retry_after_seconds=retry_after_seconds, random=random)
        return now + timedelta(seconds=delay)
