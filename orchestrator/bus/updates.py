"""Messages that go out on `task-updates`: one a journaled step, as plain JSON."""

from datetime import UTC, datetime

import orjson

from orchestrator.bus.cloud_events import binary_headers
from orchestrator.bus.headers import Headers
from orchestrator.domain.json import JsonObject
from orchestrator.store.outbox import StepUpdate

TYPES = {
    "accepted": "task.accepted",
    "waiting": "task.waiting",
    "completed": "task.completed",
    "failed": "task.failed",
    "cancelled": "task.cancelled",
    "retried": "task.retried",
    "forked": "task.forked",
}
"""A step's kind → its type; the others are `task.step`. Consumers know them: never rename."""

STEP = "task.step"


def update_type(kind: str) -> str:
    return TYPES.get(kind, STEP)


def update_id(update: StepUpdate) -> str:
    """What consumers deduplicate by; the same however often it is published."""
    return f"{update.task_id}/{update.seq}"


def update_message(update: StepUpdate, *, source: str) -> tuple[bytes, bytes, Headers]:
    """Key, value and headers."""
    body: JsonObject = {"step": update.body, "change": update.change}
    return _message(update, body, source=source)


def stub_message(update: StepUpdate, *, source: str, size: int) -> tuple[bytes, bytes, Headers]:
    """The same without the step, for one that is larger than Kafka takes: order has no holes."""
    note = (
        f"this step has {size} bytes, more than a Kafka message may have: "
        f"read step {update.seq} of task {update.task_id} from the view task_steps in PostgreSQL"
    )
    return _message(update, {"step": None, "change": None, "note": note}, source=source)


def _message(update: StepUpdate, body: JsonObject, *, source: str) -> tuple[bytes, bytes, Headers]:
    id_, kind = update_id(update), update_type(update.kind)
    at = update.at.astimezone(UTC)
    value = {
        "id": id_,
        "type": kind,
        "task_id": update.task_id,
        "tenant": update.tenant,
        "seq": update.seq,
        "at": _rfc3339(at),
        "kind": update.kind,
        **body,
    }
    headers = (
        *binary_headers(
            id=id_, source=source, type=f"orchestrator.{kind}.v1", time=at, subject=update.task_id
        ),
        ("id", id_),
    )
    if update.traceparent:
        headers = (*headers, ("traceparent", update.traceparent))
    return update.task_id.encode(), orjson.dumps(value), headers


def _rfc3339(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
