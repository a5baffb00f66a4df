"""One line when something goes away, one when it is back: never one an attempt.

What comes and goes within seconds, as where some connections are left and no new one can be made,
is told once in a while.
"""

import math
import random
import time

from orchestrator.telemetry.logs import get_logger

log = get_logger(__name__)

FIRST_DELAY_SECONDS = 0.1
MAX_DELAY_SECONDS = 5.0
QUIET_SECONDS = 5.0
"""After an outage was told. Another one is told if it lasts longer than that."""


class Outage:
    """Of one thing, "PostgreSQL" or "Kafka", as one part sees it."""

    def __init__(
        self,
        what: str,
        *,
        during: str,
        quiet_seconds: float = QUIET_SECONDS,
        max_delay_seconds: float = MAX_DELAY_SECONDS,
    ) -> None:
        self._what = what
        self._during = during
        self._quiet_seconds = quiet_seconds
        self._max_delay_seconds = max_delay_seconds
        self._since: float | None = None
        self._is_told = False
        self._told_at = -math.inf
        self._attempts = 0
        self.reason: str | None = None
        """Why it is not there; None while it is."""

    def failed(self, error: Exception) -> float:
        """Notes a failed attempt; answers how many seconds to wait before the next."""
        now = time.monotonic()
        self.reason = str(error)
        if self._since is None:
            self._since = now
        if not self._is_told and now - self._told_at >= self._quiet_seconds:
            self._is_told, self._told_at = True, now
            log.warning("unavailable", what=self._what, during=self._during, reason=self.reason)
        ceiling = min(self._max_delay_seconds, FIRST_DELAY_SECONDS * 2.0 ** min(self._attempts, 10))
        self._attempts += 1
        return ceiling * random.uniform(0.5, 1.0)

    def is_over(self) -> None:
        """Notes that it answered."""
        if self._since is None:
            return
        if self._is_told:
            seconds = round(time.monotonic() - self._since, 1)
            log.info("available again", what=self._what, during=self._during, after_seconds=seconds)
        self._since, self._attempts, self.reason, self._is_told = None, 0, None, False
