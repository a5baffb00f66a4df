"""Messages that come in: a Kafka record becomes a task or an event, or says why it can't.

A record is parsed to the same result each time it is read: also a generated id is the same again.
"""

import uuid

from orchestrator.bus.cloud_events import Envelope, unwrap
from orchestrator.bus.contract import (
    EventMessage,
    TaskMessage,
    check_budget,
    check_event,
    check_kind,
)
from orchestrator.bus.dead_letters import REPLAY_OF
from orchestrator.bus.headers import first
from orchestrator.bus.options import ValueFormat
from orchestrator.domain.context import Context
from orchestrator.domain.errors import InvalidMessage
from orchestrator.domain.event import AGENT_RESULT
from orchestrator.domain.ids import TaskId
from orchestrator.domain.task import Priority
from orchestrator.store.ingest import NewEvent, NewTask, Origin
from orchestrator.telemetry.traces import parse_traceparent

NAMESPACE = uuid.UUID("6c6f6e67-7461-5bd9-9a7e-5e5b5d3a9f21")
"""Of generated task ids. Never change: a record that is read again would become a second task."""


def parse_task(
    origin: Origin, *, cluster_id: str, max_bytes: int, value_format: ValueFormat = "auto"
) -> NewTask:
    """The task in a record of topic `tasks`.

    Raises:
        InvalidMessage: and nothing else, whatever the bytes are.
    """
    envelope = unwrap(origin.value, origin.headers, max_bytes=max_bytes, value_format=value_format)
    message = TaskMessage.read(envelope.data)
    check_kind(message)
    check_budget(message)
    context = Context(
        required_fields=tuple(message.providers),
        providers={name: who for name, who in message.providers.items() if who != "any"},
    )
    context = context.apply(context.event_change(message.event_data, by="event"))
    return NewTask(
        origin=origin,
        task_id=TaskId(message.task_id or _generated_id(origin, envelope, cluster_id)),
        description=message.task_description,
        context=context.to_json(),
        kind=message.kind,
        tenant=message.tenant,
        priority=Priority[message.priority.upper()],
        deadline=message.deadline,
        budget=message.budget.read(tokens=message.budget_tokens),
        metadata=message.metadata,
        traceparent=_traceparent(origin),
    )


def parse_event(origin: Origin, *, max_bytes: int, value_format: ValueFormat = "auto") -> NewEvent:
    """The event in a record of topic `events`.

    Raises:
        InvalidMessage: and nothing else, whatever the bytes are.
    """
    envelope = unwrap(origin.value, origin.headers, max_bytes=max_bytes, value_format=value_format)
    message = EventMessage.read(envelope.data)
    check_event(message)
    payload = message.payload
    if message.event_type == AGENT_RESULT:
        payload.setdefault("status", "error" if message.error_message else "success")
    return NewEvent(
        origin=origin,
        task_id=TaskId(message.task_id),
        event_type=message.event_type,
        payload=payload,
        event_id=message.event_id or _cloud_event_id(envelope),
        step=message.step,
        call=message.call,
    )


def readable_task_id(
    origin: Origin, *, max_bytes: int, value_format: ValueFormat = "auto"
) -> str | None:
    """The task id of a message that could not be used, where it can be read all the same."""
    try:
        data = unwrap(
            origin.value, origin.headers, max_bytes=max_bytes, value_format=value_format
        ).data
    except InvalidMessage:
        return None
    task_id = data.get("task_id")
    return task_id if isinstance(task_id, str) and 0 < len(task_id) <= 200 else None


def _generated_id(origin: Origin, envelope: Envelope, cluster_id: str) -> str:
    # A CloudEvent that its producer sent twice has the same id and source both times.
    event = _cloud_event_id(envelope)
    # A dead letter that was sent again twice is one task, too.
    letter = first(origin.headers, REPLAY_OF)
    place = f"{cluster_id}/{origin.source}" if letter is None else f"dead-letter\n{letter}"
    return str(uuid.uuid5(NAMESPACE, event or place))


def _cloud_event_id(envelope: Envelope) -> str | None:
    """CloudEvents: an id is unique together with its source."""
    if envelope.id is None:
        return None
    return str(uuid.uuid5(NAMESPACE, f"cloud-event\n{envelope.source}\n{envelope.id}"))


def _traceparent(origin: Origin) -> str | None:
    header = first(origin.headers, "traceparent")
    return header if parse_traceparent(header) else None
