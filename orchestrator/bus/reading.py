"""A poll's records → parts to write: of each placed partition its messages, and how far it is read.

The event loop is given back in between, so that many slow messages delay no heartbeat.
"""

import asyncio
import time
from collections.abc import Sequence

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka import errors as kafka
from aiokafka.structs import ConsumerRecord

from orchestrator.bus.intake import Item, Part, Reader
from orchestrator.bus.polling import Records
from orchestrator.bus.rebalance import Assignment

TURN_SECONDS = 0.02
"""How long messages are read before others on the event loop have their turn."""


class Reading:
    """Of one session. Whoever asks looks afterwards whether the assignment is still the same."""

    def __init__(
        self, consumer: AIOKafkaConsumer, assignment: Assignment, *, reader: Reader
    ) -> None:
        self._consumer = consumer
        self._assignment = assignment
        self._reader = reader

    async def parts(self, records: Records) -> list[Part]:
        """Of all placed partitions.

        Also without messages: markers of transactions are passed without being handed out.
        """
        found = []
        for partition in list(self._assignment.positions):
            found += await self.part(partition, records.get(partition, ()))
        return found

    async def part(
        self, partition: TopicPartition, records: Sequence[ConsumerRecord], *, unread: bool = False
    ) -> list[Part]:
        """Of one; nothing where there is nothing. `unread` messages are made dead letters."""
        position = self._assignment.positions.get(partition)
        if position is None:
            return []
        # Some came before, where the client was sent back to a position that had moved since.
        found = [r for r in records if r.offset >= position]
        reached = await self._position(partition, default=position)
        next_offset = max(found[-1].offset + 1 if found else position, reached)
        if next_offset <= position:
            return []
        return [
            Part(
                topic=partition.topic,
                partition=partition.partition,
                expected=position,
                next_offset=next_offset,
                items=await self._items(found, unread=unread),
            )
        ]

    async def _items(self, records: Sequence[ConsumerRecord], *, unread: bool) -> tuple[Item, ...]:
        items: list[Item] = []
        began = time.monotonic()
        for record in records:
            items.append(self._reader.crashed(record) if unread else self._reader.read(record))
            if time.monotonic() - began > TURN_SECONDS:
                await asyncio.sleep(0)
                began = time.monotonic()
        return tuple(items)

    async def _position(self, partition: TopicPartition, *, default: int) -> int:
        try:
            position: int = await self._consumer.position(partition)
        except kafka.IllegalStateError:
            return default
        return position
