"""One round of the relay: rows become one Kafka batch a partition, all sent at once.

A batch is whole or not in Kafka at all, and the next round waits for this one: whatever fails, no
partition ever gets a later message without the earlier ones.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from aiokafka import AIOKafkaProducer
from aiokafka import errors as kafka
from aiokafka.partitioner import DefaultPartitioner

from orchestrator.bus.outgoing import Outgoing

Place = tuple[str, int]

_partition_of = DefaultPartitioner()


@dataclass(slots=True)
class _Packed:
    batch: Any
    """aiokafka's BatchBuilder."""
    rows: list[int] = field(default_factory=list)
    size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipped:
    """What came of a round."""

    rows: frozenset[int]
    """Rows of which every message was acknowledged."""
    messages: dict[str, int]
    """How many were, by topic."""
    errors: tuple[BaseException, ...]

    @classmethod
    def of(cls, topic: str, rows: Iterable[int], *, errors: tuple[BaseException, ...] = ()) -> Self:
        """Rows of one topic, a message each."""
        sent = frozenset(rows)
        return cls(rows=sent, messages={topic: len(sent)} if sent else {}, errors=errors)

    @property
    def was_too_large(self) -> bool:
        return any(isinstance(e, kafka.MessageSizeTooLargeError) for e in self.errors)


async def ship(
    producer: AIOKafkaProducer,
    messages: Sequence[Outgoing],
    *,
    max_bytes: int,
    patience_seconds: float,
) -> Shipped:
    """Sends what fits into one batch a partition; the rest is for the next round.

    A batch that is not acknowledged in time counts as failed, and is only gone with the producer.

    Raises:
        aiokafka.errors.KafkaError, TimeoutError: nothing is known of a topic; nothing was sent.
    """
    async with asyncio.timeout(patience_seconds):
        packed, left = await _pack(producer, messages, max_bytes=max_bytes)
    results = await asyncio.gather(
        *(
            _send(producer, place, part, patience_seconds=patience_seconds)
            for place, part in packed.items()
        ),
        return_exceptions=True,
    )
    failed = set(left)
    count: dict[str, int] = {}
    errors = []
    for (place, part), result in zip(packed.items(), results, strict=True):
        if isinstance(result, BaseException):
            errors.append(result)
            failed.update(part.rows)
        else:
            count[place[0]] = count.get(place[0], 0) + len(part.rows)
    rows = frozenset(row for part in packed.values() for row in part.rows) - failed
    return Shipped(rows=rows, messages=count, errors=tuple(errors))


async def _pack(
    producer: AIOKafkaProducer, messages: Sequence[Outgoing], *, max_bytes: int
) -> tuple[dict[Place, _Packed], set[int]]:
    """Batches in the order of the rows, and the rows that found no room in theirs."""
    partitions = {
        topic: sorted(await producer.partitions_for(topic)) for topic in {m.topic for m in messages}
    }
    packed: dict[Place, _Packed] = {}
    full: set[Place] = set()
    left: set[int] = set()
    for message in messages:
        known = partitions[message.topic]
        place = (message.topic, _partition_of(message.key or b"", known, known))
        part = packed.get(place)
        if part is None:
            part = packed[place] = _Packed(batch=producer.create_batch())
        size = message.size
        # Once one message did not fit, no later one of the partition may go before it.
        if place in full or (part.rows and part.size + size > max_bytes):
            full.add(place)
            left.add(message.row)
            continue
        added = part.batch.append(
            key=message.key, value=message.value, timestamp=None, headers=list(message.headers)
        )
        if added is None:
            full.add(place)
            left.add(message.row)
            continue
        part.rows.append(message.row)
        part.size += size
    return {place: part for place, part in packed.items() if part.rows}, left


async def _send(
    producer: AIOKafkaProducer, place: Place, part: _Packed, *, patience_seconds: float
) -> None:
    topic, partition = place
    part.batch.close()
    async with asyncio.timeout(patience_seconds):
        await (await producer.send_batch(part.batch, topic, partition=partition))
