"""Bulkheads and pacing: who waits, for how long, and what it is told."""

import asyncio
from dataclasses import replace

import pytest

from orchestrator.agents.agent import CallRequest
from orchestrator.agents.limits import LimitedCaller, Pace
from orchestrator.domain.agent import Limits
from orchestrator.domain.call import CallResult, CallStatus
from orchestrator.domain.ids import AgentId
from tests.fakes.callers import CRM, call_request


class HeldCaller:
    """Calls end when they are released; the requests that came this far are kept."""

    def __init__(self) -> None:
        self.requests: list[CallRequest] = []
        self.released = asyncio.Event()

    async def call(self, request: CallRequest) -> CallResult:
        self.requests.append(request)
        await self.released.wait()
        return CallResult(status=CallStatus.SUCCESS)

    async def cancel(self, request: CallRequest) -> bool:
        raise AssertionError("nothing is cancelled here")

    async def status(self, request: CallRequest) -> CallResult | None:
        return None


def limited_to(**limits: float) -> CallRequest:
    return call_request(agent=replace(CRM, limits=Limits(**limits)))  # type: ignore[arg-type]


async def until_waiting() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_no_more_calls_go_out_than_the_agent_allows() -> None:
    inner = HeldCaller()
    caller = LimitedCaller(inner)
    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(caller.call(limited_to(concurrency=2))) for _ in range(5)]
        await until_waiting()
        assert len(inner.requests) == 2
        inner.released.set()
    assert [call.result().status for call in calls] == ["success"] * 5


async def test_another_agent_does_not_wait() -> None:
    inner = HeldCaller()
    caller = LimitedCaller(inner)
    request = limited_to(concurrency=1)
    other = replace(request, agent=replace(request.agent, id=AgentId("accounts")))
    async with asyncio.TaskGroup() as group:
        for each in (request, request, other):
            group.create_task(caller.call(each))
        await until_waiting()
        assert [r.agent.id for r in inner.requests] == ["crm", "accounts"]
        inner.released.set()


async def test_waiting_counts_against_the_deadline() -> None:
    inner = HeldCaller()
    caller = LimitedCaller(inner)
    first = asyncio.create_task(caller.call(limited_to(concurrency=1)))
    await until_waiting()
    result = await caller.call(replace(limited_to(concurrency=1), timeout_seconds=0.02))
    assert (result.status, result.retryable) == (CallStatus.ERROR, True)
    assert result.error == "agent 'crm' is busy: all 1 slots stayed taken for 0.02 s"
    inner.released.set()
    await first


async def test_a_call_that_waited_has_less_time_left() -> None:
    inner = HeldCaller()
    now = 0.0
    caller = LimitedCaller(inner, clock=lambda: now)
    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(caller.call(limited_to(concurrency=1)))
        await until_waiting()
        now = 2.0
        inner.released.set()
    assert [request.timeout_seconds for request in inner.requests] == [5.0, 3.0]


async def test_a_slot_comes_back_when_a_call_is_cancelled() -> None:
    inner = HeldCaller()
    caller = LimitedCaller(inner)
    first = asyncio.create_task(caller.call(limited_to(concurrency=1)))
    await until_waiting()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    inner.released.set()
    assert (await caller.call(limited_to(concurrency=1))).status == CallStatus.SUCCESS


async def test_changed_limits_hold_from_the_next_call() -> None:
    inner = HeldCaller()
    caller = LimitedCaller(inner)
    async with asyncio.TaskGroup() as group:
        group.create_task(caller.call(limited_to(concurrency=1)))
        await until_waiting()
        group.create_task(caller.call(limited_to(concurrency=5)))
        await until_waiting()
        assert len(inner.requests) == 2
        inner.released.set()


async def test_a_rate_that_is_used_up_is_told_with_the_time_to_wait() -> None:
    inner = HeldCaller()
    inner.released.set()
    caller = LimitedCaller(inner, clock=lambda: 0.0)
    assert (await caller.call(limited_to(rate_per_second=0.1))).status == CallStatus.SUCCESS
    result = await caller.call(limited_to(rate_per_second=0.1))
    assert (
        result.error == "agent 'crm' is busy: its 0.1 calls a second are taken for the next 10.0 s"
    )
    assert (result.retryable, result.retry_after_seconds) == (True, 10.0)


async def test_a_call_waits_for_its_turn() -> None:
    inner = HeldCaller()
    inner.released.set()
    caller = LimitedCaller(inner, clock=lambda: 0.0)
    for _ in range(3):
        assert (await caller.call(limited_to(rate_per_second=100))).status == CallStatus.SUCCESS
    assert [r.timeout_seconds for r in inner.requests] == pytest.approx([5.0, 4.99, 4.98])


async def test_asking_for_a_status_takes_no_slot() -> None:
    inner = HeldCaller()
    caller = LimitedCaller(inner)
    first = asyncio.create_task(caller.call(limited_to(concurrency=1)))
    await until_waiting()
    assert await caller.status(limited_to(concurrency=1)) is None
    inner.released.set()
    await first


def test_a_pace_spaces_calls_evenly() -> None:
    pace = Pace(interval_seconds=0.5)
    assert [pace.reserve(10.0, at_most_seconds=9) for _ in range(3)] == [0.0, 0.5, 1.0]
    assert pace.reserve(20.0, at_most_seconds=9) == 0.0


def test_a_pace_reserves_nothing_for_who_would_wait_too_long() -> None:
    pace = Pace(interval_seconds=2.0)
    assert pace.reserve(0.0, at_most_seconds=1) == 0.0
    assert pace.reserve(0.0, at_most_seconds=1) is None
    assert pace.delay_seconds(0.0) == 2.0
    assert pace.reserve(1.0, at_most_seconds=1) == 1.0
