"""PostgreSQL's time, known without asking: a worker whose own clock is wrong must not matter."""

from datetime import UTC, datetime, timedelta


class Clock:
    """Set by each heartbeat, read by everyone in the worker."""

    def __init__(self) -> None:
        self._ahead = timedelta()

    def set(self, now: datetime, *, elapsed_seconds: float) -> None:
        """`now` is PostgreSQL's time of a statement that took `elapsed_seconds` to come back."""
        self._ahead = now + timedelta(seconds=elapsed_seconds / 2) - datetime.now(UTC)

    def now(self) -> datetime:
        """Aware UTC."""
        return datetime.now(UTC) + self._ahead
