"""One call of a decision: whether it goes out, how, and what its outcome is in the journal."""

import asyncio
import logging
from datetime import timedelta
from typing import Any

import pytest
import structlog

from orchestrator.agents.targets import Targets
from orchestrator.domain.call import CallResult, CallStatus
from orchestrator.domain.ids import AgentId, Seq
from orchestrator.domain.step import AttemptFailed
from orchestrator.engine.calls import Calls, Outcome
from orchestrator.engine.clock import boot_seconds
from orchestrator.engine.lease import Lease
from orchestrator.telemetry.logs import VERBOSE_LOGGER
from tests.unit.engine.making import (
    CRM,
    NOW,
    OPTIONS,
    FixedCaller,
    calls_of,
    due,
    failure,
    finished,
    outcome,
    silently,
    snapshot,
    success,
)


async def test_a_success_is_kept_whole_and_its_declared_fields_are_collected() -> None:
    result = CallResult(
        status=CallStatus.SUCCESS,
        output={"customer_id": "C-1", "note": "x"},
        usage={"tokens": 3},
        duration_ms=12,
    )
    assert await outcome(result, attempt=2) == Outcome(
        body=finished(
            "success", output=result.output, attempt=2, usage=result.usage, duration_ms=12
        ),
        change={"collected_data": {"customer_id": "C-1"}},
    )


@pytest.mark.parametrize("output", [{}, {"note": "x"}, {"customer_id": None}])
async def test_a_success_without_a_declared_field_changes_nothing(output: dict[str, Any]) -> None:
    assert (await outcome(success(**output))).change is None


async def test_an_error_that_stays_is_final_and_collects_nothing() -> None:
    result = failure("no such customer", retryable=False, output={"customer_id": "C-1"})
    assert await outcome(result) == Outcome(
        body=finished("error", error="no such customer", output={"customer_id": "C-1"})
    )


async def test_a_question_is_final_and_collects_nothing() -> None:
    result = CallResult(status=CallStatus.INPUT_REQUIRED, error="which country?")
    assert await outcome(result) == Outcome(body=finished("input_required", error="which country?"))


async def test_an_agent_that_answers_later_has_so_long() -> None:
    result = CallResult(status=CallStatus.ACCEPTED)
    assert await outcome(result) == Outcome(
        body=finished("accepted", until=NOW + timedelta(hours=2))
    )


async def test_an_error_that_may_pass_is_tried_again_later() -> None:
    assert await outcome(failure("busy", duration_ms=5), attempt=2) == Outcome(
        body=AttemptFailed(
            step=Seq(3),
            call=1,
            agent=AgentId("crm"),
            attempt=2,
            error="busy",
            retry_at=NOW + timedelta(seconds=2),
            duration_ms=5,
        )
    )


async def test_a_retry_waits_for_as_long_as_the_agent_asked() -> None:
    body = (await outcome(failure(retry_after_seconds=30.0))).body
    assert isinstance(body, AttemptFailed)
    assert body.retry_at == NOW + timedelta(seconds=31)


async def test_an_error_without_words_says_so() -> None:
    body = (await outcome(CallResult(status=CallStatus.ERROR, retryable=True))).body
    assert isinstance(body, AttemptFailed)
    assert body.error == "no reason given"


async def test_the_last_attempt_is_final() -> None:
    assert await outcome(failure("busy"), attempt=3) == Outcome(
        body=finished("error", error="busy", attempt=3, is_unsure=True)
    )


async def test_an_agent_that_is_gone_is_an_error_and_nothing_is_sent() -> None:
    caller = FixedCaller()
    found = await calls_of(caller).make(due(), snapshot(), None, announce=silently)
    assert found == Outcome(body=finished("error", error="there is no agent 'crm' any more"))
    assert caller.traffic == (0, 0)


async def test_a_call_carries_where_it_comes_from() -> None:
    caller = FixedCaller()
    await calls_of(caller).make(due(), snapshot(), CRM, announce=silently)
    (request,) = caller.calls
    assert (request.task_id, request.step, request.call) == ("t-1", 3, 1)
    assert (request.input, request.epoch, request.agent) == ({"name": "ACME"}, 7, CRM)
    assert request.traceparent == "00-a-b-01"


@pytest.mark.parametrize(
    ("left_seconds", "timeout_seconds"), [(None, 30.0), (60.0, 30.0), (12.5, 12.5), (-5.0, 0.001)]
)
async def test_a_call_may_not_take_longer_than_its_task(
    left_seconds: float | None, timeout_seconds: float
) -> None:
    caller = FixedCaller()
    deadline = None if left_seconds is None else NOW + timedelta(seconds=left_seconds)
    await calls_of(caller).make(due(), snapshot(deadline), CRM, announce=silently)
    (request,) = caller.calls
    assert request.timeout_seconds == timeout_seconds
    assert request.is_cut_short is (timeout_seconds < 30.0)


async def test_nothing_is_sent_while_the_lease_is_not_held() -> None:
    caller, lease = FixedCaller(), Lease(timedelta(minutes=5))
    calls = Calls(caller=caller, targets=Targets(), lease=lease, options=OPTIONS, now=lambda: NOW)
    making = asyncio.create_task(calls.make(due(), snapshot(), CRM, announce=silently))
    for _ in range(5):
        await asyncio.sleep(0)
    assert caller.traffic == (0, 0)
    lease.renew(boot_seconds())
    await making
    assert caller.traffic == (1, 0)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (success(customer_id="C-1"), 'answer {"customer_id":"C-1"}'),
        (success(n=2**70), f"answer {{'n': {2**70}}}"),
        (failure("busy"), "answer busy"),
    ],
)
async def test_with_verbose_logs_a_call_is_shown_with_input_and_answer(
    answer: CallResult, told: str
) -> None:
    logger = logging.getLogger(VERBOSE_LOGGER)
    before = logger.level
    logger.setLevel(logging.INFO)
    try:
        with structlog.testing.capture_logs() as lines:
            await outcome(answer)
    finally:
        logger.setLevel(before)
    blocks = [line["block"] for line in lines if "block" in line]
    assert blocks == [f'input  {{"name":"ACME"}}\n{told}']
