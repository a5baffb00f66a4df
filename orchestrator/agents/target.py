"""One agent or model as this worker knows it: may it be called now, and if not, when?

Operator's pause, breaker, retry budget, bulkhead and rate are asked here, in this order, for every
call. A call that can't go out within a second is not made at all (`NotNow`): the engine parks it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from orchestrator.agents.breaker import Breaker, BreakerOptions, BreakerState, Pass
from orchestrator.agents.limits import Gate, Turns
from orchestrator.agents.retry_budget import RetryBudget, RetryBudgetOptions
from orchestrator.domain.agent import Limits
from orchestrator.domain.errors import NotNow, PeerError
from orchestrator.domain.fault import Fault
from orchestrator.domain.retry import half_jitter
from orchestrator.telemetry import metrics

MAX_ERROR = 300
LOOK_SECONDS = 60.0
"""How long at most a call stays parked before somebody looks again unasked."""
PROSPECTS = 3
"""Calls that come back when the breaker may be probed; the others are woken when it closes."""
AGAIN_SECONDS = 0.2
"""The least time between two looks of a call that found no slot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetOptions:
    breaker: BreakerOptions = BreakerOptions()
    retry_budget: RetryBudgetOptions = RetryBudgetOptions()
    wait_seconds: float = 1.0
    """How long a call may wait in memory for a slot or its turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """An operator's word that nothing is to be sent."""

    by: str
    at: datetime
    reason: str = ""

    def __str__(self) -> str:
        return f"paused by {self.by}{f': {self.reason}' if self.reason else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetState:
    """What is told about a target. Times are seconds of the worker's own clock."""

    target: str
    breaker: BreakerState
    is_limited: bool
    closed_until: float | None
    in_flight: int
    parked: int
    """Calls that were turned away since this worker began."""
    retries_left: int
    last_error: str | None
    last_error_at: float | None


class Entry:
    """A call that goes out. Its end is reported once, or it counts as if it had not been made."""

    def __init__(self, passed: Pass, report: Callable[["Entry"], None]) -> None:
        self.passed = passed
        self.fault: Fault | None = None
        self.error: str | None = None
        self.wish_seconds: float | None = None
        self.is_answered = False
        self._report = report

    def report(
        self, fault: Fault | None, *, error: str | None = None, wish_seconds: float | None = None
    ) -> None:
        """The other side answered (no fault), or did not."""
        self.fault, self.error, self.wish_seconds = fault, error, wish_seconds
        self.is_answered = True
        self._report(self)


class Target:
    """Shared by all tasks of a worker. `Targets` makes them and keeps them."""

    def __init__(
        self,
        name: str,
        *,
        limits: Limits,
        options: TargetOptions,
        seconds: Callable[[], float],
        random: Callable[[], float],
        closed: Callable[[str], None],
    ) -> None:
        """`closed` is told by name when the breaker closes: whoever is parked may come."""
        self.name = name
        self.pause: Pause | None = None
        self._options = options
        self._seconds = seconds
        self._random = random
        self._closed = closed
        self._breaker = Breaker(options.breaker, random=random)
        metrics.BREAKER_STATE.labels(name).set(metrics.BREAKER_STATES[self._breaker.state.value])
        self._budget = RetryBudget(options.retry_budget)
        self._gate = Gate(limits)
        self._turns = Turns()
        self._prospects = 0
        self._in_flight = 0
        self._parked = 0
        self._call_seconds = 1.0
        """How long a call takes, smoothed."""
        self._last_error: tuple[str, float] | None = None

    @asynccontextmanager
    async def entered(self, *, is_retry: bool) -> AsyncIterator[Entry]:
        """A call may go out while the block runs; a `PeerError` in it is reported by itself.

        Raises:
            NotNow: it may not.
        """
        self._admit(is_retry=is_retry)
        async with self._gate.slot(
            wait_seconds=self._options.wait_seconds, call_seconds=self._call_seconds
        ) as is_mine:
            if not is_mine:
                raise self._no_slot()
            await self._paced()
            self._admit(is_retry=is_retry)  # much may have happened while it waited
            entry = self._begin(is_retry=is_retry)
            started = self._seconds()
            try:
                yield entry
            except PeerError as error:
                if not error.was_sent and error.fault is None:
                    raise  # held back here: it says nothing about the other side
                entry.report(error.fault, error=str(error), wish_seconds=error.retry_after_seconds)
                raise
            finally:
                self._end(entry, started)

    def limit(self, limits: Limits) -> None:
        """Takes the limits that are declared now; calls under way keep their slots."""
        if limits != self._gate.limits:
            self._gate = Gate(limits)

    def is_open(self) -> bool:
        """Whether a first try may go out now, as far as pause and breaker go."""
        return self.pause is None and self._breaker.closed_for(self._seconds()) == 0

    @property
    def holds_back(self) -> bool:
        """Whether the breaker keeps calls from going out."""
        return self._breaker.state is not BreakerState.CLOSED

    def state(self) -> TargetState:
        error, at = self._last_error or (None, None)
        return TargetState(
            target=self.name,
            breaker=self._breaker.state,
            is_limited=self._breaker.is_limited,
            closed_until=self._breaker.closed_until,
            in_flight=self._in_flight,
            parked=self._parked,
            retries_left=self._budget.left(self._seconds()),
            last_error=error,
            last_error_at=at,
        )

    def not_now(self) -> NotNow | None:
        """Why no call goes out because of pause or breaker; None where one may."""
        if self.pause is not None:
            return self._refused("paused", str(self.pause), half_jitter(LOOK_SECONDS, self._random))
        seconds = self._breaker.closed_for(self._seconds())
        if seconds == 0:
            return None
        self._prospects += 1
        if self._prospects > PROSPECTS:
            seconds += half_jitter(LOOK_SECONDS, self._random)
        said = f" ({self._last_error[0]})" if self._last_error else ""
        if self._breaker.is_limited:
            return self._refused("limited", f"asked to wait{said}", seconds)
        return self._refused("breaker_open", f"does not answer{said}", seconds)

    def _admit(self, *, is_retry: bool) -> None:
        refused = self.not_now()
        if refused is not None:
            raise refused
        now = self._seconds()
        if is_retry and self._budget.left(now) == 0:
            first = self._budget.wait_seconds(now)
            raise self._refused(
                "retry_budget",
                "was tried again too often in the last minute",
                self._turns.next_seconds(now, first=first, apart=1.0),
            )

    def _no_slot(self) -> NotNow:
        slots = self._gate.limits.concurrency
        apart = 0.9 * self._call_seconds / slots
        wait = self._turns.next_seconds(self._seconds(), first=AGAIN_SECONDS, apart=apart)
        return self._refused("busy", f"is busy: all {slots} slots are taken", wait)

    async def _paced(self) -> None:
        """Waits for the call's turn."""
        pace = self._gate.pace
        if pace is None:
            return
        now = self._seconds()
        delay = pace.reserve(now, at_most_seconds=self._options.wait_seconds)
        if delay is None:
            apart, first = pace.interval_seconds, pace.delay_seconds(now)
            rate = self._gate.limits.rate_per_second
            wait = self._turns.next_seconds(now, first=first, apart=apart)
            raise self._refused("rate", f"is busy: its {rate:g} calls a second are taken", wait)
        if delay > 0:
            await asyncio.sleep(delay)

    def _refused(self, cause: str, why: str, seconds: float) -> NotNow:
        self._parked += 1
        metrics.CALLS_PARKED.labels(self.name, cause).inc()
        kind, _, rest = self.name.partition("/")
        is_or = "is " if cause == "paused" else ""
        text = f"{kind} {rest.removeprefix('default/')!r} {is_or}{why}"
        return NotNow(text, target=self.name, cause=cause, seconds=seconds)

    def _begin(self, *, is_retry: bool) -> Entry:
        now = self._seconds()
        passed = self._breaker.enter(now)
        self._budget.count(now, is_retry=is_retry)
        self._in_flight += 1
        return Entry(passed, self._reported)

    def _end(self, entry: Entry, started: float) -> None:
        self._in_flight -= 1
        if entry.is_answered:
            took = self._seconds() - started
            self._call_seconds += 0.2 * (took - self._call_seconds)
        else:
            self._breaker.leave(entry.passed)

    def _reported(self, entry: Entry) -> None:
        """At once, not at the block's end: what is decided about the call must know of it."""
        now, was = self._seconds(), self._breaker.state
        if entry.fault is not None:
            self._last_error = ((entry.error or entry.fault.value)[:MAX_ERROR], now)
        self._breaker.report(entry.fault, entry.passed, now=now, wish_seconds=entry.wish_seconds)
        state = self._breaker.state
        if state is BreakerState.OPEN and was is not BreakerState.OPEN:
            self._prospects = 0
        if state is not was:
            metrics.BREAKER_STATE.labels(self.name).set(metrics.BREAKER_STATES[state.value])
        if state is BreakerState.CLOSED and was is not BreakerState.CLOSED:
            self._closed(self.name)
