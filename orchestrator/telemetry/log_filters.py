"""What is done to log records of other libraries: a flood becomes one line and a count."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

INTERVAL_SECONDS = 10.0
MAX_REMEMBERED = 1000
"""Messages whose last time is kept; beyond it all are forgotten, which costs a few lines more."""


@dataclass(slots=True)
class _Seen:
    at: float
    suppressed: int = 0


class RateFilter(logging.Filter):
    """Lets one foreign record of each message through in ten seconds, with a count of the rest.

    aiokafka logs every failed attempt of every part: 780 lines in 14 seconds of an absent broker.
    Our own loggers pass: they repeat themselves on purpose.
    """

    def __init__(
        self,
        *,
        interval_seconds: float = INTERVAL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._interval = interval_seconds
        self._clock = clock
        self._seen: dict[tuple[str, int, str], _Seen] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """False for a repetition; the next that passes carries `suppressed`."""
        if record.name.partition(".")[0] == "orchestrator":
            return True
        now = self._clock()
        # The template, not the text: node ids and correlation ids in it would make each one new.
        key = (record.name, record.levelno, str(record.msg))
        seen = self._seen.get(key)
        if seen is not None and now - seen.at < self._interval:
            seen.suppressed += 1
            return False
        if len(self._seen) >= MAX_REMEMBERED:
            self._seen.clear()
        if seen is not None and seen.suppressed:
            record.suppressed = seen.suppressed
        self._seen[key] = _Seen(at=now)
        return True
