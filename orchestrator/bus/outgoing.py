"""Rows of the outbox → Kafka messages: pure, and never more bytes than the brokers take."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from orchestrator.bus.dead_letters import (
    ERROR,
    FAILED_AT,
    GROUP,
    ID,
    LENGTH,
    MAX_KEY_BYTES,
    PUBLISH_TOO_LARGE,
    REASON,
    REPLAYS,
    SERVICE_VERSION,
    TASK_ID,
    VERSION,
    cut_headers,
    cut_key_headers,
    without_originals,
)
from orchestrator.bus.headers import Headers, first, headers_to_bytes
from orchestrator.bus.messages import NAMESPACE
from orchestrator.bus.options import BusOptions
from orchestrator.bus.updates import stub_message, update_id, update_message
from orchestrator.store.outbox import Gone, Letter, OutboxRow, StepUpdate

RECORD_OVERHEAD = 128
"""More than a record and the head of its batch need beside key, value and headers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One Kafka message, and the outbox row that it comes from."""

    row: int
    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]

    @property
    def size(self) -> int:
        """At least as many bytes as it takes in a batch."""
        headers = sum(len(name.encode()) + len(value or b"") + 10 for name, value in self.headers)
        return len(self.key or b"") + len(self.value or b"") + headers + RECORD_OVERHEAD


def encode(row: OutboxRow, options: BusOptions, *, max_bytes: int) -> Sequence[Outgoing]:
    """What to publish for a row; nothing where there is nothing left of it."""
    match row:
        case Letter():
            return (_letter(row, options, max_bytes=max_bytes),)
        case StepUpdate():
            return _update(row, options, max_bytes=max_bytes)
        case Gone():
            return ()


def _update(row: StepUpdate, options: BusOptions, *, max_bytes: int) -> Sequence[Outgoing]:
    topic = options.topics.task_updates
    key, value, headers = update_message(row, source=options.source)
    whole = _outgoing(row.id, topic, key=key, value=value, headers=headers)
    if whole.size <= max_bytes:
        return (whole,)
    key, stub, headers = stub_message(row, source=options.source, size=len(value))
    told = _outgoing(row.id, topic, key=key, value=stub, headers=headers)
    return told, _too_large(row, options, key=key, value=value, max_bytes=max_bytes)


def _too_large(
    row: StepUpdate, options: BusOptions, *, key: bytes, value: bytes, max_bytes: int
) -> Outgoing:
    """The dead letter of an update: its beginning, and how to see the rest."""
    headers = (
        (REASON, PUBLISH_TOO_LARGE),
        (ERROR, f"update {update_id(row)} has {len(value)} bytes: Kafka takes at most {max_bytes}"),
        (TASK_ID, row.task_id),
    )
    letter = Letter(
        id=row.id, topic=options.topics.dead_letters, key=key, value=value, headers=headers
    )
    return _letter(letter, options, max_bytes=max_bytes)


def _letter(row: Letter, options: BusOptions, *, max_bytes: int) -> Outgoing:
    headers = row.headers
    if row.topic == options.topics.dead_letters:
        headers = (*headers, *_completed(row, options))
    whole = _outgoing(row.id, row.topic, key=row.key, value=row.value, headers=headers)
    return whole if whole.size <= max_bytes else _cut(whole, headers, max_bytes=max_bytes)


def _cut(whole: Outgoing, headers: Headers, *, max_bytes: int) -> Outgoing:
    """Of a letter as much as Kafka takes: one that it refuses would hold up all that follow."""
    key, value = whole.key, whole.value or b""
    if first(headers, LENGTH) is None:
        headers = (*headers, *cut_headers(value))
    if key is not None and len(key) > MAX_KEY_BYTES:
        headers, key = (*headers, *cut_key_headers(key)), key[:MAX_KEY_BYTES]
    rest = _outgoing(whole.row, whole.topic, key=key, value=None, headers=headers)
    if rest.size > max_bytes:
        headers = without_originals(headers)
        rest = _outgoing(whole.row, whole.topic, key=key, value=None, headers=headers)
    kept = max(0, max_bytes - rest.size)
    return replace(rest, value=value[:kept])


def _completed(row: Letter, options: BusOptions) -> Headers:
    """What every dead letter has, for those that are written in SQL with less."""
    if first(row.headers, ID) is not None:
        return ()
    # The same again if the row is published again, so that readers can tell.
    name = "\n".join(("letter", str(row.id), *(value for _, value in row.headers)))
    now = datetime.now(UTC).isoformat()
    complete = (
        (ID, str(uuid.uuid5(NAMESPACE, name))),
        (FAILED_AT, now),
        (GROUP, options.group_id),
        (VERSION, SERVICE_VERSION),
        (REPLAYS, "0"),
    )
    return tuple((n, v) for n, v in complete if first(row.headers, n) is None)


def _outgoing(
    row: int, topic: str, *, key: bytes | None, value: bytes | None, headers: Headers
) -> Outgoing:
    return Outgoing(
        row=row, topic=topic, key=key, value=value, headers=tuple(headers_to_bytes(headers))
    )
