import json
from datetime import UTC, datetime
from typing import get_args

import pytest

from orchestrator.domain.call import Call, CallStatus
from orchestrator.domain.decision import (
    Complete,
    Delegate,
    Fail,
    ModelMessage,
    Reply,
    Usage,
    Wait,
)
from orchestrator.domain.errors import UnreadableJournal
from orchestrator.domain.ids import AgentId, Seq
from orchestrator.domain.json import JsonObject
from orchestrator.domain.step import (
    Accepted,
    AttemptFailed,
    CallFinished,
    CallStarted,
    Cancelled,
    Completed,
    Decided,
    EventApplied,
    Failed,
    Rested,
    Retried,
    StepBody,
    dump_body,
    load_body,
)

AT = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
CRM = AgentId("crm")
DELEGATE = Delegate(calls=(Call(number=1, agent=CRM, input={"name": "ACME"}, tool_call_id="t1"),))

# What journals hold. Never change one: whoever renames a field makes stored journals unreadable.
GOLDEN: list[tuple[StepBody, str]] = [
    (
        Accepted(description="Register ACME", source="tasks/0/7"),
        '{"description":"Register ACME","source":"tasks/0/7"}',
    ),
    (
        EventApplied(event_type="answer", payload={"a": [1, None]}, source="events/1/2"),
        '{"event_type":"answer","payload":{"a":[1,null]},"source":"events/1/2"}',
    ),
    (
        Decided(
            decision=DELEGATE,
            message=ModelMessage(text="hm", tool_calls=({"id": "t1", "name": "crm", "args": {}},)),
            replies=(Reply(tool_call_id="t0", text="no such agent", is_error=True),),
            is_repair=True,
            model="openai:x",
            usage=Usage(input_tokens=10, output_tokens=2),
            duration_ms=150,
        ),
        '{"decision":{"calls":[{"number":1,"agent":"crm","input":{"name":"ACME"},'
        '"tool_call_id":"t1"}],"type":"delegate"},"message":{"text":"hm","tool_calls":'
        '[{"id":"t1","name":"crm","args":{}}]},"replies":[{"tool_call_id":"t0",'
        '"text":"no such agent","is_error":true}],"is_repair":true,"model":"openai:x",'
        '"usage":{"input_tokens":10,"output_tokens":2},"duration_ms":150}',
    ),
    (
        Decided(decision=Wait(waiting_for="the customer", until=AT)),
        '{"decision":{"waiting_for":"the customer","until":"2030-01-02T03:04:05Z","type":"wait"},'
        '"message":null,"replies":[],"is_repair":false,"model":"","usage":{"input_tokens":0,'
        '"output_tokens":0},"duration_ms":0}',
    ),
    (
        Decided(decision=Complete(result={"id": 1})),
        '{"decision":{"result":{"id":1},"type":"complete"},"message":null,"replies":[],'
        '"is_repair":false,"model":"","usage":{"input_tokens":0,"output_tokens":0},'
        '"duration_ms":0}',
    ),
    (
        Decided(decision=Fail(reason="no agent")),
        '{"decision":{"reason":"no agent","type":"fail"},"message":null,"replies":[],'
        '"is_repair":false,"model":"","usage":{"input_tokens":0,"output_tokens":0},'
        '"duration_ms":0}',
    ),
    (CallStarted(step=Seq(2), call=1, agent=CRM), '{"step":2,"call":1,"agent":"crm"}'),
    (
        CallFinished(
            step=Seq(2),
            call=1,
            agent=CRM,
            status=CallStatus.ACCEPTED,
            output={"a": 1},
            error="?",
            attempt=2,
            usage={"tokens": 3},
            duration_ms=5,
            until=AT,
        ),
        '{"step":2,"call":1,"agent":"crm","status":"accepted","output":{"a":1},"error":"?",'
        '"attempt":2,"usage":{"tokens":3},"duration_ms":5,"until":"2030-01-02T03:04:05Z"}',
    ),
    (
        AttemptFailed(
            step=Seq(2), call=1, agent=CRM, attempt=1, error="503", retry_at=AT, duration_ms=9
        ),
        '{"step":2,"call":1,"agent":"crm","attempt":1,"error":"503",'
        '"retry_at":"2030-01-02T03:04:05Z","duration_ms":9}',
    ),
    (
        Rested(waiting_for="the customer", until=AT),
        '{"waiting_for":"the customer","until":"2030-01-02T03:04:05Z"}',
    ),
    (Completed(result={"id": 1}, by="rule"), '{"result":{"id":1},"by":"rule"}'),
    (Failed(reason="no agent", code="planner"), '{"reason":"no agent","code":"planner"}'),
    (Cancelled(reason="typo"), '{"reason":"typo"}'),
    (Retried(), "{}"),
]
KINDS = {
    "accepted", "event", "decision", "call_started", "result", "attempt_failed", "waiting",
    "completed", "failed", "cancelled", "retried",
}  # fmt: skip


@pytest.mark.parametrize(("body", "stored"), GOLDEN, ids=lambda v: getattr(v, "kind", ""))
def test_a_body_is_stored_as_ever_and_read_back_equal(body: StepBody, stored: str) -> None:
    assert json.loads(dump_body(body)) == json.loads(stored)
    assert load_body(body.kind, json.loads(stored)) == body


def test_every_kind_has_a_golden_body() -> None:
    assert {body.kind for body, _ in GOLDEN} == KINDS
    assert {cls.kind for cls in get_args(StepBody)} == KINDS


@pytest.mark.parametrize(
    ("kind", "least"),
    [
        ("accepted", {"description": "x"}),
        ("event", {"event_type": "data"}),
        ("decision", {"decision": {"type": "delegate"}}),
        ("result", {"step": 2, "call": 1, "agent": "crm", "status": "success"}),
        ("attempt_failed", {"attempt": 1, "error": "x", "retry_at": "2030-01-02T03:04:05Z"}),
        ("waiting", {"waiting_for": "x"}),
        ("completed", {}),
        ("failed", {"reason": "x"}),
        ("cancelled", {}),
    ],
)
def test_fields_that_came_later_may_be_absent(kind: str, least: JsonObject) -> None:
    assert load_body(kind, least).kind == kind


def test_what_a_later_release_wrote_is_said_to_be_unreadable() -> None:
    with pytest.raises(UnreadableJournal, match="kind 'dreamt'"):
        load_body("dreamt", {})
    with pytest.raises(UnreadableJournal, match=r"kind 'result'.*status"):
        load_body("result", {"step": 2, "call": 1, "agent": "crm", "status": "perhaps"})
