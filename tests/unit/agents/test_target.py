"""One gate for each agent or model: what lets a call through, and what it is told otherwise."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from prometheus_client import REGISTRY

from orchestrator.agents.breaker import BreakerState
from orchestrator.agents.retry_budget import RetryBudgetOptions
from orchestrator.agents.target import PROSPECTS, Pause, Target, TargetOptions
from orchestrator.agents.targets import Targets
from orchestrator.domain.agent import Limits
from orchestrator.domain.errors import ModelFailed, NotNow
from orchestrator.domain.fault import Fault
from orchestrator.domain.ids import AgentId
from tests.fakes.callers import CRM

NAME = "agent/default/crm"
PAUSE = Pause(by="kim", at=datetime(2030, 1, 1, tzinfo=UTC), reason="too dear")


class Given:
    """Targets on a clock of the test's own."""

    def __init__(self, **options: float) -> None:
        self.now = 100.0
        self.targets = Targets(
            TargetOptions(wait_seconds=0.01, retry_budget=RetryBudgetOptions(floor=2)),
            seconds=lambda: self.now,
            random=lambda: 1.0,
        )
        self.agent = replace(CRM, limits=Limits(**options))  # type: ignore[arg-type]

    @property
    def target(self) -> Target:
        return self.targets.agent(self.agent)

    async def call(self, fault: Fault | None = None, *, is_retry: bool = False) -> None:
        async with self.target.entered(is_retry=is_retry) as entry:
            entry.report(fault, error="503")

    async def refused(self, *, is_retry: bool = False) -> NotNow:
        with pytest.raises(NotNow) as caught:
            await self.call(is_retry=is_retry)
        return caught.value


async def opened(**options: float) -> Given:
    given = Given(**options)
    for _ in range(5):
        await given.call(Fault.UNAVAILABLE)
    return given


async def test_a_paused_agent_is_not_called_and_the_words_of_the_operator_are_told() -> None:
    given = Given()
    given.targets.set_pauses({NAME: PAUSE})
    refused = await given.refused()
    assert (refused.cause, refused.target) == ("paused", NAME)
    assert str(refused) == "agent 'crm' is paused by kim: too dear"


async def test_a_pause_that_is_over_is_told_at_once() -> None:
    given, told = Given(), list[str]()
    given.targets.on_open = told.append
    given.targets.set_pauses({NAME: PAUSE})
    given.targets.set_pauses({})
    await given.call()
    assert told == [NAME]


async def test_five_calls_that_nobody_answers_stop_the_sixth() -> None:
    refused = await (await opened()).refused()
    assert (refused.cause, refused.seconds) == ("breaker_open", 20.0)
    assert str(refused) == "agent 'crm' does not answer (503)"


async def test_a_breaker_that_never_opened_is_measured_too() -> None:
    given = Given()
    given.agent = replace(given.agent, id=AgentId("measured"))
    await given.call()
    sample = {"target": "agent/default/measured"}
    assert REGISTRY.get_sample_value("orchestrator_breaker_state", sample) == 0


async def test_few_come_back_for_the_probe_and_the_others_are_woken_later() -> None:
    given = await opened()
    waits = [(await given.refused()).seconds for _ in range(5)]
    assert waits[:PROSPECTS] == [20.0] * PROSPECTS
    assert min(waits[PROSPECTS:]) >= 50.0


async def test_who_closes_the_breaker_tells_it() -> None:
    given, told = await opened(), list[str]()
    given.targets.on_open = told.append
    given.now += 20.0
    await given.call()
    assert (told, given.target.state().breaker) == ([NAME], BreakerState.CLOSED)


async def test_a_probe_that_is_cancelled_leaves_the_gate_as_it_was() -> None:
    given = await opened()
    given.now += 20.0
    with pytest.raises(asyncio.CancelledError):
        async with given.target.entered(is_retry=False):
            raise asyncio.CancelledError
    await given.call()


async def test_an_error_of_the_model_is_reported_by_itself() -> None:
    given = Given()
    for _ in range(5):
        with pytest.raises(ModelFailed):
            async with given.target.entered(is_retry=False):
                raise ModelFailed("no answer", retryable=True, fault=Fault.FAILED)
    assert (await given.refused()).cause == "breaker_open"


async def test_a_prompt_that_was_held_back_says_nothing_about_the_model() -> None:
    given = Given()
    for _ in range(10):
        with pytest.raises(ModelFailed):
            async with given.target.entered(is_retry=False):
                raise ModelFailed("not sent", retryable=True, was_sent=False)
    await given.call()


async def test_second_tries_end_where_their_budget_does() -> None:
    given = Given()
    await given.call(is_retry=True)
    await given.call(is_retry=True)
    assert (await given.refused(is_retry=True)).cause == "retry_budget"
    await given.call()


async def test_a_call_waits_a_moment_for_a_slot_and_no_longer() -> None:
    given = Given(concurrency=1)
    async with given.target.entered(is_retry=False):
        refused = await given.refused()
    assert refused.cause == "busy"
    assert str(refused) == "agent 'crm' is busy: all 1 slots are taken"
    await given.call()


async def test_a_slot_comes_back_when_a_call_is_cancelled() -> None:
    given = Given(concurrency=1)
    with pytest.raises(asyncio.CancelledError):
        async with given.target.entered(is_retry=False):
            raise asyncio.CancelledError
    await given.call()
    assert given.target.state().in_flight == 0


async def test_who_waits_for_a_slot_hears_of_a_pause_meanwhile() -> None:
    given = Given(concurrency=1)
    given.targets = Targets(TargetOptions(wait_seconds=5.0))
    async with given.target.entered(is_retry=False):
        waiting = asyncio.create_task(given.refused())
        await asyncio.sleep(0)
        given.targets.set_pauses({NAME: PAUSE})
    assert (await waiting).cause == "paused"


async def test_a_rate_that_is_used_up_gives_each_its_own_time() -> None:
    given = Given(rate_per_second=0.5)
    await given.call()
    refused = [await given.refused() for _ in range(3)]
    assert [r.cause for r in refused] == ["rate"] * 3
    assert [r.seconds for r in refused] == [2.0, 4.0, 6.0]


async def test_changed_limits_hold_from_the_next_call() -> None:
    given = Given(concurrency=1)
    async with given.target.entered(is_retry=False):
        given.agent = replace(given.agent, limits=Limits(concurrency=2))
        await given.call()


async def test_another_endpoint_is_another_gate() -> None:
    given = await opened()
    given.agent = replace(given.agent, endpoint="http://127.0.0.1:2")
    await given.call()


@pytest.mark.parametrize("change", [lambda t: t.set_pauses({NAME: PAUSE}), lambda t: None])
async def test_the_state_of_a_gate_can_be_read(change: Callable[[Targets], None]) -> None:
    given = await opened()
    change(given.targets)
    (state,) = given.targets.states()
    assert (state.target, state.breaker, state.closed_until) == (NAME, BreakerState.OPEN, 120.0)
    assert (state.last_error, state.last_error_at, state.in_flight) == ("503", 100.0, 0)
