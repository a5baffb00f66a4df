"""Kafka's own committed offsets: a copy of PostgreSQL's positions for lag tools, best effort.

Their metadata names the service, so that the group is known as ours while none of us is in it.
"""

import asyncio
import time
from collections.abc import Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import OffsetAndMetadata

from orchestrator.bus.connection import CLIENT_ERRORS

INTERVAL_SECONDS = 1.0
TIMEOUT_SECONDS = 5.0


class Mirror:
    """Commits at most once a second, beside the reading, and always with explicit offsets."""

    def __init__(self, consumer: AIOKafkaConsumer, *, mark: str) -> None:
        self._consumer = consumer
        self._mark = mark
        self._waiting: dict[TopicPartition, int] = {}
        self._last = 0.0
        self._commit: asyncio.Task[None] | None = None

    def note(self, positions: Mapping[TopicPartition, int]) -> None:
        self._waiting.update(positions)

    def tick(self) -> None:
        """Starts a commit where one is due and none is under way."""
        is_busy = self._commit is not None and not self._commit.done()
        if is_busy or not self._waiting or time.monotonic() - self._last < INTERVAL_SECONDS:
            return
        self._last = time.monotonic()
        self._commit = asyncio.create_task(self._commit_waiting(), name="mirror offsets")

    async def close(self) -> None:
        """Commits what is left."""
        if self._commit is not None:
            await self._commit
        await self._commit_waiting()

    async def _commit_waiting(self) -> None:
        waiting, self._waiting = self._waiting, {}
        assigned = self._consumer.assignment()
        offsets = {
            partition: OffsetAndMetadata(at, self._mark)
            for partition, at in waiting.items()
            if partition in assigned
        }
        if not offsets:
            return
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await self._consumer.commit(offsets)
        except (*CLIENT_ERRORS, TimeoutError):
            return  # a copy: the next commit brings it up to date
