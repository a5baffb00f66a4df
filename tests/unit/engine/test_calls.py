"""One call of a decision: whether it goes out, how, and what its outcome is in the journal."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog

from orchestrator.agents.agent import CallRequest
from orchestrator.agents.targets import Targets
from orchestrator.domain.agent import Agent
from orchestrator.domain.call import Call, CallResult, CallStatus
from orchestrator.domain.context import Context
from orchestrator.domain.fault import Fault
from orchestrator.domain.ids import AgentId, Epoch, Seq, TaskId, TaskKey
from orchestrator.domain.retry import RetryPolicy
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.step import AttemptFailed, CallFinished, CallParked
from orchestrator.domain.task import Task
from orchestrator.engine.call_states import DueCall
from orchestrator.engine.calls import Calls, Outcome
from orchestrator.engine.clock import boot_seconds
from orchestrator.engine.lease import Lease
from orchestrator.engine.options import EngineOptions
from orchestrator.telemetry.logs import VERBOSE_LOGGER

NOW = datetime(2030, 1, 1, tzinfo=UTC)
CRM = Agent(
    id=AgentId("crm"),
    name="CRM",
    description="Keeps customers.",
    endpoint="http://crm.invalid",
    output_schema={"type": "object", "properties": {"customer_id": {}}},
)
MAIL = Agent(
    id=AgentId("mail"),
    name="Mail",
    description="Sends letters.",
    endpoint="http://mail.invalid",
    effects="at_most_once",
    status_url="http://mail.invalid/status",
    output_schema={"type": "object", "properties": {"sent": {}}},
)
OPTIONS = EngineOptions(
    worker_name="w",
    async_result_timeout=timedelta(hours=2),
    agent_retry=RetryPolicy(max_attempts=3, base_seconds=2.0, cap_seconds=60.0),
)


class FixedCaller:
    """Gives one answer to calls and one to questions for a call's status, and keeps both."""

    def __init__(self, answer: CallResult | None = None, known: CallResult | None = None) -> None:
        self._answer = answer or success()
        self._known = known
        self.calls: list[CallRequest] = []
        self.questions: list[CallRequest] = []

    async def call(self, request: CallRequest) -> CallResult:
        self.calls.append(request)
        return self._answer

    async def cancel(self, request: CallRequest) -> bool:
        raise AssertionError("nothing is cancelled here")

    async def status(self, request: CallRequest) -> CallResult | None:
        self.questions.append(request)
        return self._known

    @property
    def traffic(self) -> tuple[int, int]:
        """Calls, questions."""
        return len(self.calls), len(self.questions)


def success(**output: Any) -> CallResult:
    return CallResult(status=CallStatus.SUCCESS, output=output)


def failure(error: str = "busy", *, retryable: bool = True, **more: Any) -> CallResult:
    return CallResult(status=CallStatus.ERROR, error=error, retryable=retryable, **more)


def calls_of(caller: FixedCaller, *, targets: Targets | None = None) -> Calls:
    lease = Lease(timedelta(minutes=5))
    lease.renew(boot_seconds())
    return Calls(
        caller=caller,
        targets=targets or Targets(),
        lease=lease,
        options=OPTIONS,
        now=lambda: NOW,
        jitter=lambda: 0.5,
    )


async def silently() -> bool:
    """Journals nothing."""
    return True


async def made(caller: FixedCaller, call: DueCall, agent: Agent) -> Outcome:
    outcome = await calls_of(caller).make(call, snapshot(), agent, announce=silently)
    assert outcome is not None
    return outcome


def snapshot(deadline: datetime | None = None) -> Snapshot:
    task = Task(
        key=TaskKey(1),
        task_id=TaskId("t-1"),
        description="d",
        created_at=NOW,
        deadline=deadline,
        traceparent="00-a-b-01",
    )
    return Snapshot(task=task, epoch=Epoch(7), context=Context())


def due(of: Agent = CRM, *, attempt: int = 1, was_started: bool = False) -> DueCall:
    call = Call(number=1, agent=of.id, input={"name": "ACME"})
    return DueCall(step=Seq(3), call=call, attempt=attempt, was_started=was_started)


async def outcome(answer: CallResult, **more: Any) -> Outcome:
    """Of a call that the CRM answers like this; `more` are arguments of `due`."""
    return await made(FixedCaller(answer), due(**more), CRM)


async def mailed(caller: FixedCaller, *, was_started: bool = False) -> Outcome:
    """Of a call of the agent whose effects can't be repeated."""
    return await made(caller, due(MAIL, was_started=was_started), MAIL)


def finished(status: str, *, of: Agent = CRM, **more: Any) -> CallFinished:
    return CallFinished(step=Seq(3), call=1, agent=of.id, status=CallStatus(status), **more)


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


# Agents whose effects can't be repeated


async def test_a_call_that_was_begun_is_never_made_again() -> None:
    caller = FixedCaller(known=success(sent=True))
    assert await mailed(caller, was_started=True) == Outcome(
        body=finished("success", of=MAIL, output={"sent": True}),
        change={"collected_data": {"sent": True}},
    )
    assert caller.traffic == (0, 1)


async def test_an_idempotent_agent_is_called_again_when_its_call_was_begun() -> None:
    caller = FixedCaller()
    await calls_of(caller).make(due(was_started=True), snapshot(), CRM, announce=silently)
    assert caller.traffic == (1, 0)


async def test_a_sent_call_that_failed_is_asked_after_and_not_repeated() -> None:
    caller = FixedCaller(failure("timed out"), known=failure("no address", retryable=False))
    assert (await mailed(caller)).body == finished("error", of=MAIL, error="no address")
    assert caller.traffic == (1, 1)


async def test_a_call_that_surely_was_not_sent_is_tried_again() -> None:
    caller = FixedCaller(failure("refused", was_sent=False, fault=Fault.UNAVAILABLE))
    assert isinstance((await mailed(caller)).body, AttemptFailed)
    assert caller.traffic == (1, 0)


async def test_a_call_that_our_own_lease_held_back_spends_no_try() -> None:
    caller = FixedCaller(failure("this worker lost its lease", was_sent=False))
    parked = (await mailed(caller)).body
    assert isinstance(parked, CallParked)
    assert (parked.cause, parked.reason) == ("lease", "this worker lost its lease")
    assert parked.until - NOW < timedelta(seconds=1)


async def test_an_error_that_stays_needs_no_question() -> None:
    caller = FixedCaller(failure("no", retryable=False))
    assert (await mailed(caller)).body == finished("error", of=MAIL, error="no")
    assert caller.traffic == (1, 0)


async def test_an_agent_that_still_works_on_it_has_so_long() -> None:
    caller = FixedCaller(known=CallResult(status=CallStatus.ACCEPTED))
    found = await mailed(caller, was_started=True)
    assert found.body == finished("accepted", of=MAIL, until=NOW + timedelta(hours=2))


@pytest.mark.parametrize(
    ("known", "said"),
    [
        (None, "it does not know the call"),
        (failure("unreachable"), "unreachable"),
        (CallResult(status=CallStatus.ERROR, retryable=True), "it does not say"),
    ],
)
async def test_where_nobody_knows_what_became_of_it_a_person_is_asked(
    known: CallResult | None, said: str
) -> None:
    caller = FixedCaller(known=known)
    body = (await mailed(caller, was_started=True)).body
    assert isinstance(body, CallFinished)
    assert (body.status, body.until) == (CallStatus.ACCEPTED, None)
    assert body.error is not None
    assert body.error.startswith("a person: whether call 3/1 of agent 'mail' took effect")
    assert f"({said})" in body.error
    assert caller.traffic == (0, 1)


class HeldBackOnce(FixedCaller):
    """Its first question is held back by a lease that was just lost."""

    async def status(self, request: CallRequest) -> CallResult | None:
        known = await super().status(request)
        is_first = len(self.questions) == 1
        return failure("the lease was lost", was_sent=False) if is_first else known


async def test_a_question_that_was_held_back_is_asked_again_and_no_person_is() -> None:
    caller = HeldBackOnce(known=success(receipt="R-1"))
    found = await mailed(caller, was_started=True)
    assert isinstance(found.body, CallFinished)
    assert found.body.status is CallStatus.SUCCESS
    assert caller.traffic == (0, 2)
