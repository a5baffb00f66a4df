"""Journals as values: a task whose steps a test writes down."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from orchestrator.domain.call import Call, CallStatus
from orchestrator.domain.context import Context
from orchestrator.domain.decision import Decision, Delegate, Usage
from orchestrator.domain.ids import AgentId, Epoch, Seq, TaskId, TaskKey
from orchestrator.domain.json import JsonObject
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.step import (
    Accepted,
    AttemptFailed,
    CallFinished,
    CallStarted,
    Decided,
    EventApplied,
    Step,
    StepBody,
)
from orchestrator.domain.task import Task

BEGAN = datetime(2030, 1, 1, 12, tzinfo=UTC)
"""When the task was accepted; each step comes a second later."""
NOW = BEGAN + timedelta(minutes=10)
LATER = NOW + timedelta(minutes=1)
BEFORE = NOW - timedelta(minutes=1)

TASK = Task(key=TaskKey(1), task_id=TaskId("order"), description="Register ACME", created_at=BEGAN)


def snapshot(
    *steps: StepBody | tuple[StepBody, JsonObject],
    required: Sequence[str] = ("id",),
    **task: Any,
) -> Snapshot:
    """The task after its acceptance (step 1) and these steps (from step 2)."""
    first: tuple[StepBody, JsonObject] = (
        Accepted(description=TASK.description),
        Context(required_fields=tuple(required)).to_json(),
    )
    pairs = [s if isinstance(s, tuple) else (s, None) for s in (first, *steps)]
    made = [
        Step(seq=Seq(n), body=body, change=change, at=BEGAN + timedelta(seconds=n))
        for n, (body, change) in enumerate(pairs, 1)
    ]
    empty = Snapshot(task=replace(TASK, **task), epoch=Epoch(3), context=Context())
    return empty.after(made)


def call(number: int = 1, agent: str = "crm") -> Call:
    return Call(number=number, agent=AgentId(agent))


def decided(decision: Decision, *, tokens: int = 0) -> Decided:
    return Decided(decision=decision, usage=Usage(input_tokens=tokens))


def delegated(*agents: str, tokens: int = 0) -> Decided:
    calls = tuple(call(n, agent) for n, agent in enumerate(agents, 1))
    return decided(Delegate(calls=calls), tokens=tokens)


def finished(
    number: int = 1,
    status: CallStatus = CallStatus.SUCCESS,
    *,
    step: int = 2,
    agent: str = "crm",
    **fields: Any,
) -> CallFinished:
    return CallFinished(step=Seq(step), call=number, agent=AgentId(agent), status=status, **fields)


def accepted(number: int = 1, **fields: Any) -> CallFinished:
    return finished(number, CallStatus.ACCEPTED, **fields)


def attempt(
    number: int = 1, *, at: datetime, nth: int = 1, step: int = 2, agent: str = "crm"
) -> AttemptFailed:
    return AttemptFailed(
        step=Seq(step), call=number, agent=AgentId(agent), attempt=nth, error="503", retry_at=at
    )


def model_failed(*, at: datetime, nth: int = 1) -> AttemptFailed:
    return AttemptFailed(attempt=nth, error="429", retry_at=at)


def started(number: int = 1, *, step: int = 2) -> CallStarted:
    return CallStarted(step=Seq(step), call=number, agent=AgentId("crm"))


def event(event_type: str = "data", **payload: Any) -> EventApplied:
    return EventApplied(event_type=event_type, payload=payload)


def collects(body: StepBody, **fields: Any) -> tuple[StepBody, JsonObject]:
    return body, {"collected_data": fields}
