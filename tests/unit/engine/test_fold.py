from dataclasses import replace
from typing import Any

import pytest

from orchestrator.domain.call import CallStatus
from orchestrator.domain.context import Context
from orchestrator.domain.event import CLI, InboxMessage
from orchestrator.domain.json import JsonObject
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.step import CallFinished, EventApplied, Step
from orchestrator.engine.fold import fold
from tests.fakes.scripted_caller import agent
from tests.unit.engine.journals import accepted, decided, delegated, finished, snapshot
from tests.unit.engine.test_moves import WAITS

PENDING = snapshot(delegated("crm"), accepted())


def message(event_type: str = "data", *, step: int | None = None, **payload: Any) -> InboxMessage:
    call = 1 if step is not None else None
    return InboxMessage(
        id=7, event_type=event_type, payload=payload, step=step, call=call, source="events/0/1"
    )


CRM = replace(
    agent("crm"), output_schema={"type": "object", "properties": {"id": {"type": "integer"}}}
)


def folded(state: Snapshot, *messages: InboxMessage) -> list[Step]:
    return fold(state, messages, agents={CRM.id: CRM})


def test_each_message_is_a_step_in_order() -> None:
    steps = folded(snapshot(), message(a=1), message("answer", id=2))
    assert [s.seq for s in steps] == [2, 3]
    assert [s.body.kind for s in steps] == ["event", "event"]
    assert steps[0].change == {"event_data": {"a": 1}}
    assert steps[1].change == {"event_data": {"id": 2}, "collected_data": {"id": 2}}
    assert steps[0].body == EventApplied(event_type="data", payload={"a": 1}, source="events/0/1")


def test_no_messages_are_no_steps() -> None:
    assert folded(snapshot()) == []


def test_nothing_after_a_cancel_is_applied() -> None:
    steps = folded(snapshot(), message(a=1), message("cancel", reason="typo"), message(b=1))
    assert [s.seq for s in steps] == [2, 3]


@pytest.mark.parametrize("event_type", ["cancel", "pause", "resume"])
def test_a_command_changes_no_data(event_type: str) -> None:
    (step,) = folded(snapshot(), message(event_type, id=5))
    assert set(step.change or ()) <= {"current_state"}


def test_a_pause_shows_who_paused_and_why() -> None:
    (step,) = folded(snapshot(), message("pause", by="ops", reason="audit"))
    assert step.change == {"current_state": "paused by events/0/1 (says: ops): audit"}
    told = replace(message("pause", by="ops", reason="audit"), source=CLI)
    (step,) = folded(snapshot(), told)
    assert step.change == {"current_state": "paused by ops: audit"}


def test_who_a_late_result_says_it_is_of_is_told_apart_from_who_sent_it() -> None:
    result = message("agent_result", step=2, status="success", by="ops")
    for source, who in (("events/0/1", "events/0/1 (says: ops)"), (CLI, "ops")):
        (step,) = folded(PENDING, replace(result, source=source))
        assert isinstance(step.body, CallFinished)
        assert step.body.by == who


def test_a_result_that_comes_after_its_call_was_abandoned_settles_it() -> None:
    abandoned = snapshot(delegated("crm"), accepted(), finished(1, CallStatus.UNKNOWN))
    (step,) = folded(abandoned, message("agent_result", step=2, status="success"))
    assert isinstance(step.body, CallFinished)


WANTS = Context(
    required_fields=("id", "approval", "release"),
    providers={"id": "agent", "approval": "event", "release": "person"},
)


@pytest.mark.parametrize(
    ("told", "found"),
    [
        (message(id=1, approval=2, release=3), {"approval": 2}),
        (message("given", data={"id": 1, "approval": 2, "release": 3}), {}),
        (
            replace(message("given", data={"id": 1, "approval": 2, "release": 3}), source=CLI),
            {"approval": 2, "release": 3},
        ),
        (replace(message("given", data="release", by="ops"), source=CLI), {}),
    ],
    ids=["an event", "an event that says it is a person's", "a person", "a person's nothing"],
)
def test_a_field_is_collected_from_whom_it_is_from(
    told: InboxMessage, found: dict[str, int]
) -> None:
    (step,) = folded(replace(snapshot(), context=WANTS), told)
    assert (step.change or {}).get("collected_data", {}) == found


@pytest.mark.parametrize("output", [{"id": "5"}, {"id": None}, {"id": True}])
def test_a_late_result_against_the_agents_schema_is_an_error_as_in_its_own_answer(
    output: JsonObject,
) -> None:
    result = message("agent_result", step=2, status="success", output=output)
    (step,) = folded(PENDING, result)
    assert isinstance(step.body, CallFinished)
    assert (step.body.status, step.body.output, step.change) == (CallStatus.ERROR, output, None)
    assert step.body.is_unsure, "what it did is not undone else"
    assert (step.body.error or "").startswith("the agent_result holds an output against")
    (settled,) = folded(PENDING, replace(result, source=CLI))
    assert isinstance(settled.body, CallFinished)
    assert settled.body.status is CallStatus.SUCCESS, "a person may know less than the agent"


def test_a_late_result_collects_what_agents_may_provide() -> None:
    result = message("agent_result", step=2, status="success", output={"id": 5})
    for who, found in (("agent", {"id": 5}), ("event", {})):
        wants = Context(required_fields=("id",), providers={"id": who})  # type: ignore[dict-item]
        (step,) = folded(replace(PENDING, context=wants), result)
        assert (step.change or {}).get("collected_data", {}) == found


def test_a_late_result_ends_its_call_and_is_collected() -> None:
    result = message("agent_result", step=2, status="success", output={"id": 5, "other": 1})
    (step,) = folded(PENDING, result)
    assert isinstance(step.body, CallFinished)
    assert (step.body.step, step.body.call, step.body.agent) == (2, 1, "crm")
    assert step.body.status is CallStatus.SUCCESS
    assert step.body.output == {"id": 5, "other": 1}
    assert step.change == {"collected_data": {"id": 5}}


def test_a_late_error_ends_its_call_and_collects_nothing() -> None:
    result = message(
        "agent_result", step=2, status="error", output={"id": 5}, error_message="no such country"
    )
    (step,) = folded(PENDING, result)
    assert isinstance(step.body, CallFinished)
    assert (step.body.status, step.body.error) == (CallStatus.ERROR, "no such country")
    assert step.change is None


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ({"error_message": "busy"}, "busy"),
        ({"error_message": "busy", "retryable": False}, "busy"),
        (
            {"error_message": "busy", "retryable": True},
            "busy (the agent says that a new call may help)",
        ),
        ({"retryable": True}, "no reason given (the agent says that a new call may help)"),
    ],
)
def test_the_model_is_told_of_a_late_error_that_may_pass(said: dict[str, Any], error: str) -> None:
    (step,) = folded(PENDING, message("agent_result", step=2, status="error", **said))
    assert isinstance(step.body, CallFinished)
    assert (step.body.status, step.body.error) == (CallStatus.ERROR, error)


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ({}, CallStatus.SUCCESS),
        ({"status": "input_required"}, CallStatus.INPUT_REQUIRED),
        ({"status": "accepted"}, CallStatus.ERROR),
        ({"status": "done"}, CallStatus.ERROR),
        ({"status": 3}, CallStatus.ERROR),
        ({"output": "text"}, CallStatus.SUCCESS),
    ],
)
def test_what_a_late_result_says_of_itself(said: dict[str, Any], status: CallStatus) -> None:
    (step,) = folded(PENDING, message("agent_result", step=2, **said))
    assert isinstance(step.body, CallFinished)
    assert step.body.status is status


@pytest.mark.parametrize(
    "state",
    [
        snapshot(delegated("crm"), accepted(), finished()),
        snapshot(delegated("crm"), accepted(), delegated("crm")),
        snapshot(decided(WAITS.decision)),
        snapshot(),
        snapshot(delegated()),
    ],
    ids=["it came twice", "for an older decision", "for a wait", "for nothing", "for no call"],
)
def test_a_result_that_nobody_waits_for_is_kept_and_changes_nothing(state: Snapshot) -> None:
    (step,) = folded(state, message("agent_result", step=2, output={"id": 5}))
    assert isinstance(step.body, EventApplied)
    assert step.change is None


def test_the_same_late_result_twice_in_a_batch_counts_once() -> None:
    result = message("agent_result", step=2, output={"id": 5})
    first, second = folded(PENDING, result, result)
    assert isinstance(first.body, CallFinished)
    assert isinstance(second.body, EventApplied)


def test_a_late_result_for_a_call_whose_answer_was_lost_is_taken() -> None:
    (step,) = folded(snapshot(delegated("crm")), message("agent_result", step=2))
    assert isinstance(step.body, CallFinished)
