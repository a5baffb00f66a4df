"""Step bodies as they are stored: the JSON of each kind, read back to an equal value.

The texts below lie in the databases of users: where a test goes red because one of them changed,
the code is wrong, not the text.
"""

import json
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from typing import get_args

import pytest

from orchestrator.domain.call import Call, CallStatus
from orchestrator.domain.compensation import Compensation
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
from orchestrator.domain.step import (
    Accepted,
    AttemptFailed,
    BudgetSpent,
    CallFinished,
    CallParked,
    CallStarted,
    Cancelled,
    Compensated,
    Compensating,
    Completed,
    Decided,
    EventApplied,
    Failed,
    Forked,
    Rested,
    Retried,
    StepBody,
    Undo,
    dump_body,
    load_body,
)

UNDONE = Compensated(
    step=Seq(2),
    call=1,
    agent=AgentId("crm"),
    by=AgentId("undo"),
    is_undone=False,
    note="gone",
)
AT = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
CRM = AgentId("crm")
NOTHING_MORE = (
    '"message":null,"replies":[],"is_repair":false,"model":"",'
    '"usage":{"input_tokens":0,"output_tokens":0},"duration_ms":0}'
)

STORED: list[tuple[str, StepBody, str]] = [
    (
        "accepted",
        Accepted(description="Register ACME", source="tasks/0/7"),
        '{"description":"Register ACME","source":"tasks/0/7"}',
    ),
    (
        "event",
        EventApplied(
            event_type="answer", payload={"a": [1, None]}, source="events/1/2", step=2, call=1
        ),
        '{"event_type":"answer","payload":{"a":[1,null]},"source":"events/1/2","step":2,"call":1}',
    ),
    (
        "decision",
        Decided(
            decision=Delegate(
                calls=(
                    Call(number=1, agent=CRM, input={"name": "ACME"}, tool_call_id="c1"),
                    Call(
                        number=2,
                        agent=CRM,
                        cost_micros=20,
                        compensation=Compensation(agent=AgentId("undo"), input={"a": "$input.a"}),
                        effects="at_most_once",
                    ),
                )
            ),
            message=ModelMessage(text="I ask.", tool_calls=({"id": "c1", "name": "crm"},)),
            replies=(Reply(tool_call_id="c0", text="no such tool", is_error=True),),
            is_repair=True,
            model="some-model",
            usage=Usage(input_tokens=10, output_tokens=2),
            cost_micros=7,
            duration_ms=321,
        ),
        '{"decision":{"calls":[{"number":1,"agent":"crm","input":{"name":"ACME"},'
        '"tool_call_id":"c1"},'
        '{"number":2,"agent":"crm","input":{},"tool_call_id":null,"cost_micros":20,'
        '"compensation":{"agent":"undo","input":{"a":"$input.a"}},"effects":"at_most_once"}],'
        '"type":"delegate"},'
        '"message":{"text":"I ask.","tool_calls":[{"id":"c1","name":"crm"}]},'
        '"replies":[{"tool_call_id":"c0","text":"no such tool","is_error":true}],'
        '"is_repair":true,"model":"some-model",'
        '"usage":{"input_tokens":10,"output_tokens":2},"cost_micros":7,"duration_ms":321}',
    ),
    (
        "decision",
        Decided(decision=Wait(waiting_for="an address", until=AT)),
        '{"decision":{"waiting_for":"an address","until":"2030-01-02T03:04:05Z","type":"wait"},'
        + NOTHING_MORE,
    ),
    (
        "decision",
        Decided(decision=Complete(result={"id": 1})),
        '{"decision":{"result":{"id":1},"type":"complete"},' + NOTHING_MORE,
    ),
    (
        "decision",
        Decided(decision=Fail(reason="no such customer")),
        '{"decision":{"reason":"no such customer","type":"fail"},' + NOTHING_MORE,
    ),
    (
        "call_started",
        CallStarted(step=Seq(2), call=1, agent=CRM),
        '{"step":2,"call":1,"agent":"crm"}',
    ),
    (
        "call_started",
        CallStarted(step=Seq(2), call=1, agent=CRM, effects="at_most_once"),
        '{"step":2,"call":1,"agent":"crm","effects":"at_most_once"}',
    ),
    (
        "result",
        CallFinished(
            step=Seq(2),
            call=1,
            agent=CRM,
            status=CallStatus.ACCEPTED,
            output={"id": "C-1"},
            error="later",
            attempt=3,
            usage={"tokens": 5},
            cost_micros=3,
            duration_ms=12,
            is_unsure=True,
            until=AT,
            by="ops",
            reason="I asked them",
        ),
        '{"step":2,"call":1,"agent":"crm","status":"accepted","output":{"id":"C-1"},'
        '"error":"later","attempt":3,"usage":{"tokens":5},"cost_micros":3,"duration_ms":12,'
        '"is_unsure":true,"until":"2030-01-02T03:04:05Z","by":"ops","reason":"I asked them"}',
    ),
    (
        "result",
        CallFinished(step=Seq(2), call=1, agent=CRM, status=CallStatus.ACCEPTED, ask_at=AT),
        '{"step":2,"call":1,"agent":"crm","status":"accepted","output":{},"error":null,'
        '"attempt":1,"usage":null,"duration_ms":0,"until":null,'
        '"ask_at":"2030-01-02T03:04:05Z","by":""}',
    ),
    (
        "attempt_failed",
        AttemptFailed(
            step=Seq(2), call=1, agent=CRM, attempt=2, error="503", retry_at=AT, duration_ms=9
        ),
        '{"step":2,"call":1,"agent":"crm","attempt":2,"error":"503",'
        '"retry_at":"2030-01-02T03:04:05Z","duration_ms":9}',
    ),
    (
        "attempt_failed",
        AttemptFailed(
            attempt=2,
            error="no answer",
            retry_at=AT,
            usage=Usage(input_tokens=100, output_tokens=1000),
            cost_micros=7,
        ),
        '{"step":null,"call":null,"agent":null,"attempt":2,"error":"no answer",'
        '"retry_at":"2030-01-02T03:04:05Z","duration_ms":0,'
        '"usage":{"input_tokens":100,"output_tokens":1000},"cost_micros":7}',
    ),
    (
        "call_parked",
        CallParked(
            step=Seq(2),
            call=1,
            agent=CRM,
            target="agent/default/crm",
            cause="paused",
            reason="agent 'crm' is paused by kim",
            until=AT,
        ),
        '{"step":2,"call":1,"agent":"crm","target":"agent/default/crm","cause":"paused",'
        '"reason":"agent \'crm\' is paused by kim","until":"2030-01-02T03:04:05Z",'
        '"may_be_sent":true}',
    ),
    (
        "budget_spent",
        BudgetSpent(resource="tokens", needed=900, left=100),
        '{"resource":"tokens","needed":900,"left":100}',
    ),
    (
        "waiting",
        Rested(waiting_for="an address", until=AT),
        '{"waiting_for":"an address","until":"2030-01-02T03:04:05Z"}',
    ),
    ("completed", Completed(result={"id": 1}, by="rule"), '{"result":{"id":1},"by":"rule"}'),
    (
        "failed",
        Failed(reason="too old", code="limit", unknown=("t/2/1",), compensated=(UNDONE,)),
        '{"reason":"too old","code":"limit","unknown":["t/2/1"],"compensated":[{"step":2,"call":1,'
        '"agent":"crm","by":"undo","is_undone":false,"note":"gone"}]}',
    ),
    (
        "cancelled",
        Cancelled(reason="a duplicate", by="ops", unknown=("t/2/1",), compensated=(UNDONE,)),
        '{"reason":"a duplicate","by":"ops","unknown":["t/2/1"],"compensated":[{"step":2,"call":1,'
        '"agent":"crm","by":"undo","is_undone":false,"note":"gone"}]}',
    ),
    (
        "compensating",
        Compensating(
            status="failed",
            reason="r",
            code="limit",
            by="ops",
            unknown=("t/2/1",),
            undo=(Undo(number=1, agent=AgentId("undo"), step=Seq(2), call=1),),
        ),
        '{"status":"failed","reason":"r","code":"limit","by":"ops","unknown":["t/2/1"],'
        '"undo":[{"number":1,"agent":"undo","step":2,"call":1}]}',
    ),
    ("retried", Retried(), "{}"),
    ("retried", Retried(by="ops", reason="mended"), '{"by":"ops","reason":"mended"}'),
    (
        "forked",
        Forked(task="t", step=Seq(3), by="ops", reason="what if", given={"country": "DE"}),
        '{"task":"t","step":3,"by":"ops","reason":"what if","given":{"country":"DE"}}',
    ),
]
NAMES = [f"{kind}-{number}" for number, (kind, _, _) in enumerate(STORED)]

LEAST: list[tuple[str, str, StepBody]] = [
    ("accepted", '{"description":"d"}', Accepted(description="d")),
    ("event", '{"event_type":"data"}', EventApplied(event_type="data")),
    (
        "decision",
        '{"decision":{"type":"delegate"}}',
        Decided(decision=Delegate()),
    ),
    (
        "result",
        '{"step":2,"call":1,"agent":"crm","status":"success"}',
        CallFinished(step=Seq(2), call=1, agent=CRM, status=CallStatus.SUCCESS),
    ),
    (
        "attempt_failed",
        '{"attempt":1,"error":"e","retry_at":"2030-01-02T03:04:05Z"}',
        AttemptFailed(attempt=1, error="e", retry_at=AT),
    ),
    (
        "call_parked",
        '{"target":"model/m","cause":"busy","reason":"r","until":"2030-01-02T03:04:05Z"}',
        CallParked(target="model/m", cause="busy", reason="r", until=AT),
    ),
    ("waiting", '{"waiting_for":"x"}', Rested(waiting_for="x")),
    ("completed", "{}", Completed()),
    ("failed", '{"reason":"r"}', Failed(reason="r")),
    ("cancelled", "{}", Cancelled()),
]


@pytest.mark.parametrize(("kind", "body", "text"), STORED, ids=NAMES)
def test_a_body_is_stored_as_it_always_was(kind: str, body: StepBody, text: str) -> None:
    assert body.kind == kind
    assert dump_body(body) == text


@pytest.mark.parametrize(("kind", "body", "text"), STORED, ids=NAMES)
def test_a_field_of_a_later_release_is_passed_over(kind: str, body: StepBody, text: str) -> None:
    """So the last release, while it drains, reads what this one journals."""
    assert load_body(kind, json.loads(text) | {"later": {"much": 1}}) == body


@pytest.mark.parametrize(("kind", "body", "text"), STORED, ids=NAMES)
def test_a_stored_body_is_read_back_to_an_equal_value(kind: str, body: StepBody, text: str) -> None:
    assert load_body(kind, json.loads(text)) == body


@pytest.mark.parametrize(("kind", "text", "body"), LEAST, ids=[kind for kind, _, _ in LEAST])
def test_a_body_of_an_earlier_release_lacks_later_fields_and_is_read(
    kind: str, text: str, body: StepBody
) -> None:
    assert load_body(kind, json.loads(text)) == body


def test_every_kind_of_step_is_held_to_a_stored_text() -> None:
    assert {type(body) for _, body, _ in STORED} == set(get_args(StepBody))


def test_the_stored_texts_show_every_field_with_a_value_of_its_own() -> None:
    """A field that only ever shows its default could change its form unseen."""
    shown = {
        (type(body), name)
        for _, body, _ in STORED
        for name in _names(body)
        if getattr(body, name) not in (None, "", 0, (), {})
    }
    assert shown == {(cls, name) for cls in get_args(StepBody) for name in _names(cls)}


def _names(of: object) -> list[str]:
    assert is_dataclass(of)
    return [field.name for field in fields(of)]


def test_a_field_of_a_later_release_does_not_make_a_journal_unreadable() -> None:
    assert load_body("failed", {"reason": "r", "added_later": 1}) == Failed(reason="r")
    calls = [{"number": 1, "agent": "crm", "added_later": 1}]
    decided = load_body("decision", {"decision": {"type": "delegate", "calls": calls}})
    assert decided == Decided(decision=Delegate(calls=(Call(number=1, agent=CRM),)))


def test_an_unknown_kind_is_unreadable_and_named() -> None:
    with pytest.raises(UnreadableJournal, match=r"'teleported': this release does not know it"):
        load_body("teleported", {})


@pytest.mark.parametrize(
    ("kind", "body", "where"),
    [
        ("waiting", {"waiting_for": 5}, "its waiting_for"),
        ("waiting", {}, "its waiting_for"),
        ("result", {"step": 1, "call": 1, "agent": "crm", "status": "lost"}, "its status"),
        ("decision", {"decision": {"type": "dance"}}, "its decision"),
        ("failed", [], "its body"),
    ],
)
def test_a_body_that_cannot_be_read_is_unreadable_and_the_field_named(
    kind: str, body: object, where: str
) -> None:
    with pytest.raises(UnreadableJournal, match=where) as caught:
        load_body(kind, body)
    assert repr(kind) in str(caught.value)
    assert caught.value.code == "unreadable_journal"
