"""Writes a release's golden journals: `python -m scripts.golden 0.2.0`, once, when it is released.

Each file of `tests/golden/<version>/` is a journal as that release stores it, with what it made of
every beginning of it: the context and the next move. Every later release has to read them, and to
make the same of them (`tests/unit/engine/test_golden_journals.py`). In `sql/` are its workers'
statements, which must work on the next release's schema (`tests/integration/store/
test_last_release.py`). None of these files is ever changed.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import orjson

from orchestrator.domain import step as steps
from orchestrator.domain.call import Call, CallStatus
from orchestrator.domain.context import Context
from orchestrator.domain.decision import (
    Complete,
    Delegate,
    Fail,
    ModelMessage,
    Reply,
    Usage,
    Wait,
)
from orchestrator.domain.event import CANCEL
from orchestrator.domain.ids import AgentId, Epoch, Seq, TaskId, TaskKey
from orchestrator.domain.json import JsonObject
from orchestrator.domain.snapshot import Snapshot
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
    Step,
    StepBody,
)
from orchestrator.domain.task import Task
from orchestrator.engine.moves import next_move
from orchestrator.engine.options import TaskLimits
from orchestrator.store import claims, ingest, loading, outbox, positions, upkeep, workers
from orchestrator.store import journal as journal_statement

GOLDEN = Path(__file__).parents[1] / "tests" / "golden"
BEGAN = datetime(2026, 11, 1, 12, tzinfo=UTC)
VERBS = {"WITH", "SELECT", "INSERT", "UPDATE", "DELETE"}
ENDS = (Completed, Failed, Cancelled)

Line = StepBody | tuple[StepBody, JsonObject]


def decided(*calls: Call, **more: Any) -> Decided:
    message = ModelMessage(
        text="I call them.",
        tool_calls=tuple({"id": c.tool_call_id, "name": c.agent, "args": c.input} for c in calls),
    )
    return Decided(
        decision=Delegate(calls=calls),
        message=message,
        model="openai:gpt-4.1-mini",
        usage=Usage(input_tokens=1573, output_tokens=46),
        duration_ms=812,
        **more,
    )


def call(number: int, agent: str, **values: Any) -> Call:
    return Call(number=number, agent=AgentId(agent), input=values, tool_call_id=f"call_{number}")


def result(
    step: int, number: int, agent: str, status: CallStatus = CallStatus.SUCCESS, **more: Any
) -> CallFinished:
    return CallFinished(
        step=Seq(step), call=number, agent=AgentId(agent), status=status, duration_ms=40, **more
    )


def found(body: StepBody, **fields: Any) -> Line:
    return body, {"collected_data": fields, "current_state": "collected"}


CRM, BANK = call(1, "crm", name="ACME"), call(2, "bank", customer="C-1")

JOURNALS: dict[str, Sequence[Line]] = {
    "two calls in turn": (
        decided(CRM),
        found(result(2, 1, "crm", output={"customer_id": "C-1"}), customer_id="C-1"),
        decided(call(1, "bank", customer="C-1")),
        found(result(4, 1, "bank", output={"account": "DE1"}, usage={"eur": 1}), account="DE1"),
        Completed(result={"customer_id": "C-1", "account": "DE1"}, by="rule"),
    ),
    "side by side, one is tried again": (
        decided(CRM, BANK),
        found(result(2, 1, "crm", output={"customer_id": "C-1"}), customer_id="C-1"),
        AttemptFailed(
            step=Seq(2),
            call=2,
            agent=AgentId("bank"),
            attempt=1,
            error="503",
            retry_at=BEGAN + timedelta(minutes=5),
            duration_ms=3,
        ),
        Rested(waiting_for="another try of bank", until=BEGAN + timedelta(minutes=5)),
        result(2, 2, "bank", CallStatus.ERROR, error="no such customer", attempt=2),
        Decided(decision=Fail(reason="the bank refuses")),
        Failed(reason="the bank refuses"),
        Retried(),
        decided(BANK),
    ),
    "waits for an event": (
        Decided(decision=Wait(waiting_for="the country", until=BEGAN + timedelta(days=1))),
        Rested(waiting_for="the country", until=BEGAN + timedelta(days=1)),
        (
            EventApplied(event_type="data", payload={"country": "DE"}, source="events/0/7"),
            {"event_data": {"country": "DE"}},
        ),
        Decided(decision=Complete(result={"account": "DE1"})),
        Completed(result={"account": "DE1"}),
    ),
    "a wait that is over": (
        Decided(decision=Wait(waiting_for="the country", until=BEGAN + timedelta(seconds=2))),
        EventApplied(event_type="timeout", payload={"waiting_for": "the country"}),
    ),
    "an agent that answers later": (
        decided(CRM),
        result(2, 1, "crm", CallStatus.ACCEPTED, until=BEGAN + timedelta(hours=1)),
        Rested(waiting_for="a later answer of crm", until=BEGAN + timedelta(hours=1)),
        found(result(2, 1, "crm", output={"customer_id": "C-1"}), customer_id="C-1"),
    ),
    "an agent that never answers": (
        decided(CRM),
        result(2, 1, "crm", CallStatus.ACCEPTED, until=BEGAN + timedelta(seconds=3)),
    ),
    "a question of an agent": (
        decided(CRM),
        result(2, 1, "crm", CallStatus.INPUT_REQUIRED, output={"question": "which country?"}),
    ),
    "an agent that is called once at most": (
        decided(CRM, BANK),
        CallStarted(step=Seq(2), call=1, agent=AgentId("crm")),
        AttemptFailed(
            step=Seq(2),
            call=1,
            agent=AgentId("crm"),
            attempt=1,
            error="cut off",
            retry_at=BEGAN + timedelta(seconds=1),
        ),
        CallStarted(step=Seq(2), call=1, agent=AgentId("crm")),
        result(2, 1, "crm"),
    ),
    "a model in trouble": (
        AttemptFailed(attempt=1, error="429", retry_at=BEGAN + timedelta(minutes=1)),
        Rested(waiting_for="another try of the model", until=BEGAN + timedelta(minutes=1)),
        Decided(
            decision=Delegate(),
            message=ModelMessage(tool_calls=({"id": "x", "name": "nobody", "args": "{"},)),
            replies=(Reply(tool_call_id="x", text="no such tool", is_error=True),),
            is_repair=True,
        ),
        AttemptFailed(attempt=1, error="500", retry_at=BEGAN),
        AttemptFailed(attempt=2, error="500", retry_at=BEGAN),
        Failed(reason="tried 2 times", code="attempts_spent"),
        Retried(),
    ),
    "paused, resumed, cancelled": (
        decided(CRM),
        EventApplied(event_type="pause"),
        EventApplied(event_type="resume"),
        EventApplied(event_type="cancel", payload={"reason": "no need"}),
        Cancelled(reason="no need"),
    ),
}


def journal(lines: Sequence[Line]) -> list[Step]:
    context = Context(required_fields=("customer_id", "account"), event_data={"name": "ACME"})
    first = Accepted(description="Register ACME", source="tasks/0/42"), context.to_json()
    pairs = [line if isinstance(line, tuple) else (line, None) for line in (first, *lines)]
    return [
        Step(seq=Seq(n), body=body, change=change, at=BEGAN + timedelta(seconds=n))
        for n, (body, change) in enumerate(pairs, 1)
    ]


def beginnings(made: Sequence[Step], task: Task, limits: TaskLimits) -> Iterator[JsonObject]:
    """What this release makes of the first step, the first two, and so on."""
    snapshot = Snapshot(task=task, epoch=Epoch(3), context=Context())
    for step in made:
        snapshot = snapshot.after([step])
        body = step.body
        assert step.at is not None
        now = step.at + timedelta(seconds=1)
        told: JsonObject = {"seq": step.seq, "now": now.isoformat()}
        told["context"] = snapshot.context.to_json()
        if not (isinstance(body, ENDS) or getattr(body, "event_type", None) == CANCEL):
            move = next_move(snapshot, now=now, limits=limits)
            told["move"] = as_json({"type": type(move).__name__, **asdict(move)})
        yield told


def as_json(value: Any) -> Any:
    """As it is read back: tuples are lists, times are texts."""
    return orjson.loads(orjson.dumps(value))


def document(lines: Sequence[Line]) -> JsonObject:
    task = Task(
        key=TaskKey(1),
        task_id=TaskId("order"),
        description="Register ACME",
        created_at=BEGAN,
        deadline=BEGAN + timedelta(days=3),
    )
    limits = TaskLimits(max_steps=100, max_tokens=200_000, max_age=timedelta(days=7))
    made = journal(lines)
    rows = [
        {
            "seq": s.seq,
            "kind": s.body.kind,
            "body": orjson.loads(steps.dump_body(s.body)),
            "change": s.change,
            "at": s.at,
        }
        for s in made
    ]
    described = {
        "task": {"deadline": task.deadline, "created_at": task.created_at},
        "limits": {
            "max_steps": limits.max_steps,
            "max_tokens": limits.max_tokens,
            "max_age_seconds": limits.max_age.total_seconds(),
        },
        "steps": rows,
        "beginnings": list(beginnings(made, task, limits)),
    }
    told: JsonObject = as_json(described)
    return told


def statements() -> Iterator[tuple[str, str]]:
    """What a worker asks of PostgreSQL, by module and name."""
    for module in (
        claims,
        ingest,
        journal_statement,
        loading,
        outbox,
        positions,
        upkeep,
        workers,
    ):
        for name, value in vars(module).items():
            if name.isupper() and isinstance(value, str) and value.split()[0] in VERBS:
                yield f"{module.__name__.rpartition('.')[2]}.{name.lower()}", value


def write(version: str) -> None:
    kinds = {body.kind for body in get_args(steps.StepBody)}
    missing = kinds - {s.body.kind for j in JOURNALS.values() for s in journal(j)}
    if missing:
        sys.exit(f"no journal has a step of kind {', '.join(sorted(missing))}: add one here first")
    folder = GOLDEN / version
    folder.mkdir(parents=True)
    for name, sql in statements():
        path = folder / "sql" / f"{name}.sql"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{sql.strip()}\n")
    for name, lines in JOURNALS.items():
        path = folder / f"{name.replace(',', '').replace(' ', '-')}.json"
        path.write_bytes(orjson.dumps(document(lines), option=orjson.OPT_INDENT_2) + b"\n")


if __name__ == "__main__":
    write(sys.argv[1])
