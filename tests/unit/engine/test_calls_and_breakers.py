"""What the breaker hears of a call, and what a call is told of the breaker."""

from datetime import timedelta

import pytest

from orchestrator.agents.agent import CallRequest
from orchestrator.agents.breaker import BreakerState
from orchestrator.agents.targets import Targets
from orchestrator.domain.call import CallResult
from orchestrator.domain.fault import Fault
from orchestrator.domain.step import CallParked
from tests.unit.engine.making import (
    CRM,
    NOW,
    FixedCaller,
    calls_of,
    due,
    failure,
    silently,
    snapshot,
)


@pytest.mark.parametrize(
    ("answer", "breaker"),
    [
        (failure("silent", is_cut_short=True), BreakerState.CLOSED),
        (failure("silent", fault=Fault.FAILED), BreakerState.OPEN),
    ],
)
async def test_tasks_in_a_hurry_do_not_keep_an_agent_from_the_others(
    answer: CallResult, breaker: BreakerState
) -> None:
    targets = Targets()
    calls = calls_of(FixedCaller(answer), targets=targets)
    hurried = snapshot(NOW + timedelta(seconds=0.5))
    for _ in range(12):
        await calls.make(due(), hurried, CRM, announce=silently)
    assert targets.agent(CRM).state().breaker is breaker


async def test_a_wish_is_kept_where_failures_opened_the_breaker_meanwhile() -> None:
    class Limited(FixedCaller):
        """Is told to come back in ten minutes while five calls beside it fail."""

        async def call(self, request: CallRequest) -> CallResult:
            for _ in range(5):
                async with targets.agent(CRM).entered(is_retry=False) as beside:
                    beside.report(Fault.FAILED)
            return await super().call(request)

    targets = Targets()
    answer = failure("enough", fault=Fault.LIMITED, retry_after_seconds=600.0)
    found = await calls_of(Limited(answer), targets=targets).make(
        due(), snapshot(), CRM, announce=silently
    )
    assert found is not None
    assert isinstance(found.body, CallParked)
    assert found.body.until >= NOW + timedelta(seconds=599)


async def test_a_probe_that_its_task_cut_short_decides_nothing() -> None:
    seconds = [0.0]
    targets = Targets(seconds=lambda: seconds[0], random=lambda: 1.0)
    down = failure("away", fault=Fault.UNAVAILABLE)
    for _ in range(5):
        await calls_of(FixedCaller(down), targets=targets).make(
            due(), snapshot(), CRM, announce=silently
        )
    seconds[0] = 20.0
    probe = FixedCaller(failure("silent", is_cut_short=True))
    await calls_of(probe, targets=targets).make(due(), snapshot(), CRM, announce=silently)
    assert len(probe.calls) == 1
    assert targets.agent(CRM).state().breaker is BreakerState.OPEN
