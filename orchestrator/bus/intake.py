"""Records of one poll → the parts of a batch: what is valid, what is a dead letter, in their order.

Pure: nothing here reads or writes anything.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from aiokafka.structs import ConsumerRecord

from orchestrator.bus.dead_letters import (
    CRASH_LOOP,
    STORE_REJECTED,
    Failure,
    Station,
    dead_letter,
)
from orchestrator.bus.headers import headers_to_text
from orchestrator.bus.messages import parse_event, parse_task, readable_task_id
from orchestrator.bus.options import BusOptions
from orchestrator.domain.errors import InvalidMessage
from orchestrator.store.ingest import Advance, Batch, DeadLetter, NewEvent, NewTask, Origin

CRASHED = "several workers died one after the other while they read this message"

Item = NewTask | NewEvent | DeadLetter


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A run of messages of one partition, and the partition's position before and after it."""

    topic: str
    partition: int
    expected: int
    next_offset: int
    items: tuple[Item, ...] = ()

    @property
    def size_bytes(self) -> int:
        return sum(len(item.origin.value or b"") for item in self.items)


class Reader:
    """Turns records into items; the same record always into the same item."""

    def __init__(self, options: BusOptions, *, cluster_id: str) -> None:
        self._options = options
        self._cluster_id = cluster_id
        self.station = Station(
            topic=options.topics.dead_letters,
            group_id=options.group_id,
            # Too large for a task is not too large for a letter: cut is only what Kafka won't take.
            max_value_bytes=max(options.max_message_bytes, options.max_publish_bytes),
        )

    def read(self, record: ConsumerRecord) -> Item:
        """A task, an event, or the dead letter that says why it is neither."""
        origin = _origin(record)
        limit, form = self._options.max_message_bytes, self._options.value_format
        try:
            return self.parse(origin)
        except InvalidMessage as error:
            failure = Failure(
                reason=error.reason,
                error=str(error),
                task_id=readable_task_id(origin, max_bytes=limit, value_format=form),
                timestamp_ms=record.timestamp,
            )
            return dead_letter(origin, failure, station=self.station)

    def parse(self, origin: Origin) -> NewTask | NewEvent:
        """Raises InvalidMessage: it is neither a task nor an event."""
        limit, form = self._options.max_message_bytes, self._options.value_format
        if origin.topic == self._options.topics.tasks:
            return parse_task(
                origin, cluster_id=self._cluster_id, max_bytes=limit, value_format=form
            )
        return parse_event(origin, max_bytes=limit, value_format=form)

    def crashed(self, record: ConsumerRecord) -> DeadLetter:
        """The letter for a message that nobody reads any more: readers died of it."""
        failure = Failure(reason=CRASH_LOOP, error=CRASHED, timestamp_ms=record.timestamp)
        return dead_letter(_origin(record), failure, station=self.station)

    def rejected(self, item: NewTask | NewEvent, error: Exception) -> DeadLetter:
        """The letter for a message that PostgreSQL does not take."""
        failure = Failure(reason=STORE_REJECTED, error=str(error), task_id=item.task_id)
        return dead_letter(item.origin, failure, station=self.station)


def _origin(record: ConsumerRecord) -> Origin:
    return Origin(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        key=record.key,
        value=record.value,
        headers=headers_to_text(record.headers),
    )


def to_batch(parts: Sequence[Part], *, cluster_id: str) -> Batch:
    items = [item for part in parts for item in part.items]
    return Batch(
        cluster_id=cluster_id,
        advances=tuple(
            Advance(
                topic=p.topic,
                partition=p.partition,
                expected=p.expected,
                next_offset=p.next_offset,
            )
            for p in parts
        ),
        messages=tuple(i for i in items if not isinstance(i, DeadLetter)),
        dead_letters=tuple(i for i in items if isinstance(i, DeadLetter)),
    )


def halves(parts: Sequence[Part]) -> tuple[list[Part], list[Part]]:
    """The same messages as two batches to be written one after the other.

    A partition that is cut in the middle ends, in the first, where it begins in the second.
    """
    count = sum(len(p.items) for p in parts)
    assert count > 1, "one message can't be halved"
    room = count // 2
    before: list[Part] = []
    after: list[Part] = []
    for part in parts:
        taken = min(room, len(part.items))
        room -= taken
        if taken == len(part.items):
            before.append(part)
        elif taken == 0:
            after.append(part)
        else:
            cut = part.items[taken].origin.offset
            before.append(replace(part, next_offset=cut, items=part.items[:taken]))
            after.append(replace(part, expected=cut, items=part.items[taken:]))
    return before, after
