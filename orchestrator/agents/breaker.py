"""Whether an endpoint is worth calling right now, judged by its last answers (no I/O).

It closes again by one call that goes through: the probe. What it knows is this worker's own and
only advice: no promise about a task rests on it.
"""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from orchestrator.domain.fault import Fault
from orchestrator.domain.retry import clamped, half_jitter


class BreakerState(StrEnum):
    CLOSED = "closed"
    """Calls go out."""
    OPEN = "open"
    """None does, until its time comes."""
    HALF_OPEN = "half_open"
    """One does, and decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerOptions:
    window: int = 20
    """Calls that are looked back at."""
    failure_share: float = 0.5
    """Of a full window."""
    failures_in_a_row: int = 5
    limits_to_open: int = 2
    """In a window: one limited call waits alone, two stop the others too."""
    open_seconds: float = 20.0
    """The least time between two probes; half of it may come off as jitter."""
    max_open_seconds: float = 300.0
    limited_seconds: float = 1.0
    """After a 429 that names no time; doubles up to `max_limited_seconds`."""
    max_limited_seconds: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """What a call got that may go out; its answer is reported with it."""

    opening: int
    """How often the breaker had opened by then: what was sent before says nothing about after."""
    is_probe: bool = False


class Breaker:
    """Owned by one target. Times are seconds of a clock that only goes forward."""

    def __init__(
        self,
        options: BreakerOptions = BreakerOptions(),
        *,
        random: Callable[[], float] = random.random,
    ) -> None:
        self._options = options
        self._random = random
        self._recent: deque[Fault | None] = deque(maxlen=options.window)
        self._openings = 0
        self._open_until: float | None = None
        self._is_probed = False
        self.is_limited = False
        """It is open because the other side has enough, not because it is down."""
        self._down_since = 0.0
        self._limits = 0

    @property
    def state(self) -> BreakerState:
        if self._open_until is None:
            return BreakerState.CLOSED
        return BreakerState.HALF_OPEN if self._is_probed else BreakerState.OPEN

    @property
    def closed_until(self) -> float | None:
        """When it may be probed; None where calls go out."""
        return self._open_until

    def closed_for(self, now: float) -> float:
        """How long no call can go out; 0 where one can."""
        if self._open_until is None:
            return 0.0
        if self._is_probed:
            # Its answer decides; where it opens the breaker again, this is when to come back.
            return half_jitter(self._options.open_seconds, self._random)
        return max(0.0, self._open_until - now)

    def enter(self, now: float) -> Pass:
        """For a call that goes out now; only while `closed_for` is 0."""
        assert self.closed_for(now) == 0, "it is open"
        is_probe = self._open_until is not None
        self._is_probed = is_probe
        return Pass(opening=self._openings, is_probe=is_probe)

    def leave(self, passed: Pass) -> None:
        """A call ended without an answer that says anything: cancelled, or never sent."""
        if self._is_current(passed) and passed.is_probe:
            self._is_probed = False

    def report(
        self, fault: Fault | None, passed: Pass, *, now: float, wish_seconds: float | None = None
    ) -> None:
        """What came of a call; `wish_seconds` is the time that the other side asked for."""
        if not self._is_current(passed):
            if fault is not None and wish_seconds is not None:
                self._hold(now + clamped(wish_seconds))
            return
        self._recent.append(fault)
        if fault is None:
            if passed.is_probe:
                self._close()
        elif fault is Fault.LIMITED:
            if passed.is_probe or self._count(Fault.LIMITED) >= self._options.limits_to_open:
                self._limit(now, wish_seconds)
        elif passed.is_probe or self._is_failing():
            self._open(now, wish_seconds)

    def _is_current(self, passed: Pass) -> bool:
        return passed.opening == self._openings

    def _count(self, fault: Fault) -> int:
        return sum(1 for each in self._recent if each is fault)

    def _is_failing(self) -> bool:
        options = self._options
        row = list(self._recent)[-options.failures_in_a_row :]
        if len(row) == options.failures_in_a_row and all(_is_down(each) for each in row):
            return True
        failures = sum(1 for each in self._recent if _is_down(each))
        is_full = len(self._recent) == options.window
        return is_full and failures >= options.failure_share * options.window

    def _open(self, now: float, wish_seconds: float | None) -> None:
        """For a tenth of the time that it has been down: a short outage is soon seen to be over."""
        if self._open_until is None or self.is_limited:
            self._down_since = now
        options = self._options
        tenth = (now - self._down_since) / 10
        seconds = min(max(options.open_seconds, tenth), options.max_open_seconds)
        wait = half_jitter(seconds, self._random)
        self._shut(now + max(clamped(wish_seconds or 0.0), wait), is_limited=False)

    def _limit(self, now: float, wish_seconds: float | None) -> None:
        options = self._options
        doubled = options.limited_seconds * 2.0 ** min(self._limits, 32)
        wait = half_jitter(min(doubled, options.max_limited_seconds), self._random)
        self._limits += 1
        self._shut(now + max(clamped(wish_seconds or 0.0), wait), is_limited=True)

    def _shut(self, until: float, *, is_limited: bool) -> None:
        self._openings += 1
        self._open_until, self._is_probed, self.is_limited = until, False, is_limited

    def _hold(self, until: float) -> None:
        """The wish counts whatever opened it, and more than a probe that is under way."""
        if self._open_until is None or until <= self._open_until:
            return
        self._shut(until, is_limited=self.is_limited)

    def _close(self) -> None:
        self._open_until, self._is_probed, self.is_limited = None, False, False
        self._limits = 0
        self._recent.clear()


def _is_down(fault: Fault | None) -> bool:
    return fault in (Fault.UNAVAILABLE, Fault.FAILED)
