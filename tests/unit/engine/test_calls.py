"""One call of a decision: whether it goes out, how, and what its outcome is in the journal."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orchestrator.domain.agent import Agent
from orchestrator.domain.call import Call, CallResult, CallStatus
from orchestrator.domain.context import Context
from orchestrator.domain.ids import AgentId, Epoch, Seq, TaskId, TaskKey
from orchestrator.domain.retry import RetryPolicy
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.step import AttemptFailed, CallFinished
from orchestrator.domain.task import Task
from orchestrator.engine.calls import Calls, Outcome
from orchestrator.engine.lease import Lease, boot_seconds
from orchestrator.engine.moves import DueCall
from orchestrator.engine.options import EngineOptions
from tests.fakes.caller import ScriptedCaller, agent, failure, says, success

NOW = datetime(2030, 1, 1, tzinfo=UTC)
CRM = agent("crm", "customer_id")
MAIL = agent("mail", "sent", effects="at_most_once", status_url="http://mail.invalid/status")
KEY = "t-1/3/1"
OPTIONS = EngineOptions(
    worker_name="w",
    async_result_timeout=timedelta(hours=2),
    agent_retry=RetryPolicy(max_attempts=3, base_seconds=2.0, cap_seconds=60.0),
)


def calls_of(caller: ScriptedCaller) -> Calls:
    lease = Lease(timedelta(minutes=5))
    lease.renew(boot_seconds())
    return Calls(caller=caller, lease=lease, options=OPTIONS, now=lambda: NOW, jitter=lambda: 0.5)


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


async def outcome(
    *results: CallResult, of: Agent = CRM, caller: ScriptedCaller | None = None, **more: Any
) -> Outcome:
    """Of a call that the agent answers like this; `more` are arguments of `due`."""
    caller = caller or ScriptedCaller()
    caller.behaviours[of.id] = says(*results)
    return await calls_of(caller).make(due(of, **more), snapshot(), of)


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
    assert body.error == "no reason given"


async def test_the_last_attempt_is_final() -> None:
    assert await outcome(failure("busy"), attempt=3) == Outcome(
        body=finished("error", error="busy", attempt=3)
    )


async def test_an_agent_that_is_gone_is_an_error_and_nothing_is_sent() -> None:
    caller = ScriptedCaller()
    made = await calls_of(caller).make(due(), snapshot(), None)
    assert made == Outcome(body=finished("error", error="there is no agent 'crm' any more"))
    assert not caller.sends


async def test_a_call_carries_where_it_comes_from() -> None:
    seen = []

    async def look(request: Any, _time: int) -> CallResult:
        seen.append(request)
        return success()

    await calls_of(ScriptedCaller(crm=look)).make(due(), snapshot(), CRM)
    (request,) = seen
    assert (request.task_id, request.step, request.call) == ("t-1", 3, 1)
    assert (request.input, request.epoch, request.agent) == ({"name": "ACME"}, 7, CRM)
    assert request.traceparent == "00-a-b-01"


@pytest.mark.parametrize(
    ("left_seconds", "timeout_seconds"), [(None, 30.0), (60.0, 30.0), (12.5, 12.5), (-5.0, 0.001)]
)
async def test_a_call_may_not_take_longer_than_its_task(
    left_seconds: float | None, timeout_seconds: float
) -> None:
    seen = []

    async def look(request: Any, _time: int) -> CallResult:
        seen.append(request.timeout_seconds)
        return success()

    deadline = None if left_seconds is None else NOW + timedelta(seconds=left_seconds)
    await calls_of(ScriptedCaller(crm=look)).make(due(), snapshot(deadline), CRM)
    assert seen == [timeout_seconds]


# Agents whose effects can't be repeated


async def test_a_call_that_was_begun_is_never_made_again() -> None:
    caller = ScriptedCaller()
    caller.statuses[KEY] = success(sent=True)
    made = await outcome(of=MAIL, caller=caller, was_started=True)
    assert made == Outcome(
        body=finished("success", of=MAIL, output={"sent": True}),
        change={"collected_data": {"sent": True}},
    )
    assert (caller.sends[KEY], caller.asked[KEY]) == (0, 1)


async def test_an_idempotent_agent_is_called_again_when_its_call_was_begun() -> None:
    caller = ScriptedCaller()
    await outcome(success(), caller=caller, was_started=True)
    assert (caller.sends[KEY], caller.asked[KEY]) == (1, 0)


async def test_a_sent_call_that_failed_is_asked_after_and_not_repeated() -> None:
    caller = ScriptedCaller()
    caller.statuses[KEY] = failure("no such address", retryable=False)
    made = await outcome(failure("timed out"), of=MAIL, caller=caller)
    assert made.body == finished("error", of=MAIL, error="no such address")
    assert (caller.sends[KEY], caller.asked[KEY]) == (1, 1)


async def test_a_call_that_surely_was_not_sent_is_tried_again() -> None:
    caller = ScriptedCaller()
    made = await outcome(failure("refused", was_sent=False), of=MAIL, caller=caller)
    assert isinstance(made.body, AttemptFailed)
    assert caller.asked[KEY] == 0


async def test_an_error_that_stays_needs_no_question() -> None:
    caller = ScriptedCaller()
    made = await outcome(failure("no", retryable=False), of=MAIL, caller=caller)
    assert made.body == finished("error", of=MAIL, error="no")
    assert caller.asked[KEY] == 0


async def test_an_agent_that_still_works_on_it_has_so_long() -> None:
    caller = ScriptedCaller()
    caller.statuses[KEY] = CallResult(status=CallStatus.ACCEPTED)
    made = await outcome(of=MAIL, caller=caller, was_started=True)
    assert made.body == finished("accepted", of=MAIL, until=NOW + timedelta(hours=2))


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
    caller = ScriptedCaller()
    caller.statuses[KEY] = known
    made = await outcome(of=MAIL, caller=caller, was_started=True)
    assert isinstance(made.body, CallFinished)
    assert (made.body.status, made.body.until) == (CallStatus.ACCEPTED, None)
    assert made.body.error is not None
    assert made.body.error.startswith("a person: whether call 3/1 of agent 'mail' took effect")
    assert f"({said})" in made.body.error
    assert caller.sends[KEY] == 0
