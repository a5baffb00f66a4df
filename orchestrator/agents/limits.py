"""Each agent's own share of a worker: so many calls at once, so many a second.

A slow agent fills its own bulkhead and no other. Waiting for a slot counts against the call's
deadline, and ends in a retryable error, so that a task never waits for longer than it asked for.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from orchestrator.agents.agent import Caller, CallRequest
from orchestrator.domain.agent import Agent, Limits
from orchestrator.domain.call import CallResult, CallStatus


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


class _Gate:
    """One agent's slots and pace; made anew when its limits change."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.slots = asyncio.Semaphore(limits.concurrency)
        rate = limits.rate_per_second
        self.pace = None if rate is None else Pace(interval_seconds=1 / rate)


class LimitedCaller:
    """Holds `limits.concurrency` and `limits.rate_per_second` of each agent, in this process."""

    def __init__(self, caller: Caller, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._caller = caller
        self._clock = clock
        # One entry an agent, so as small as the catalogue.
        self._gates: dict[tuple[str, str], _Gate] = {}

    async def call(self, request: CallRequest) -> CallResult:
        gate = self._gate(request.agent)
        admitted = await self._admitted(request, gate=gate)
        if admitted is None:
            return _busy(
                request,
                why=f"all {gate.limits.concurrency} slots stayed taken "
                f"for {request.timeout_seconds:g} s",
            )
        try:
            return await self._paced(admitted, gate=gate)
        finally:
            gate.slots.release()

    async def _admitted(self, request: CallRequest, *, gate: _Gate) -> CallRequest | None:
        """The request with the time that is left when it has its slot; None if it got none."""
        if not gate.slots.locked():
            await gate.slots.acquire()
            return request
        started = self._clock()
        try:
            async with asyncio.timeout(request.timeout_seconds):
                await gate.slots.acquire()
        except TimeoutError:
            return None
        left = request.timeout_seconds - (self._clock() - started)
        return replace(request, timeout_seconds=left)

    async def status(self, request: CallRequest) -> CallResult | None:
        return await self._caller.status(request)

    async def cancel(self, request: CallRequest) -> bool:
        return await self._caller.cancel(request)

    async def _paced(self, request: CallRequest, *, gate: _Gate) -> CallResult:
        if gate.pace is None:
            return await self._caller.call(request)
        now = self._clock()
        delay = gate.pace.reserve(now, at_most_seconds=request.timeout_seconds)
        if delay is None:
            wait = gate.pace.delay_seconds(now)
            rate = gate.limits.rate_per_second
            return _busy(
                request,
                why=f"its {rate:g} calls a second are taken for the next {wait:.1f} s",
                retry_after_seconds=wait,
            )
        if delay > 0:
            await asyncio.sleep(delay)
        left = request.timeout_seconds - delay
        return await self._caller.call(replace(request, timeout_seconds=left))

    def _gate(self, agent: Agent) -> _Gate:
        key = (agent.tenant, agent.id)
        gate = self._gates.get(key)
        if gate is None or gate.limits != agent.limits:
            gate = self._gates[key] = _Gate(agent.limits)
        return gate


def _busy(
    request: CallRequest, *, why: str, retry_after_seconds: float | None = None
) -> CallResult:
    return CallResult(
        status=CallStatus.ERROR,
        error=f"agent {request.agent.id!r} is busy: {why}",
        retryable=True,
        retry_after_seconds=retry_after_seconds,
        was_sent=False,
    )
