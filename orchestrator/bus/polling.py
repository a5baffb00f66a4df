"""Messages out of aiokafka: a poll that a stop ends, and that survives what can't be decoded."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka import errors as kafka
from aiokafka.structs import ConsumerRecord

from orchestrator.bus.connection import CLIENT_ERRORS, PERMISSION_ERRORS, kafka_errors
from orchestrator.bus.damaged import UNREADABLE
from orchestrator.bus.dead_letters import BATCH_TOO_LARGE, CRASH_LOOP, GAP
from orchestrator.bus.inflating import BatchTooLarge, PollTooLarge, begin_poll
from orchestrator.bus.rebalance import Assignment
from orchestrator.bus.rest import rest
from orchestrator.domain.errors import KafkaUnavailable
from orchestrator.telemetry.logs import get_logger

log = get_logger(__name__)

Records = Mapping[TopicPartition, Sequence[ConsumerRecord]]

CAREFUL_POLL_MS = 500
"""How long one partition is waited for when each is read alone: longer than a fetch is held."""
SHRINK = 8
"""By how much fewer messages are asked for after some were too large together."""
MAX_FAILURES = 3
"""Polls in a row that may fail before the consumer is built anew, or a batch is passed over."""


class GroupRefused(KafkaUnavailable):
    """The members of the consumer group are of another service, or another program."""

    code = "group_refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """The messages at a partition's position can't be decoded, however often it is tried."""

    partition: TopicPartition
    position: int
    error: str
    reason: str = GAP


def crash_at(partition: TopicPartition, position: int) -> Damage:
    """What several readers died of before they had it decoded."""
    told = "several workers died one after the other while they fetched them"
    return Damage(partition=partition, position=position, error=told, reason=CRASH_LOOP)


class Polling:
    """Of one consumer.

    After any failure it reads again from the positions: aiokafka may have taken messages of other
    partitions out of its buffer before it raised.
    """

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        assignment: Assignment,
        *,
        batch_messages: int,
        batch_bytes: int,
        patience_seconds: float,
        stopping: asyncio.Event,
    ) -> None:
        self._consumer = consumer
        self._patience_seconds = patience_seconds
        self._assignment = assignment
        self._batch_messages = batch_messages
        self._batch_bytes = batch_bytes
        self._room = batch_messages
        """How many messages are asked for: fewer while they are large when decompressed."""
        self._stopping = stopping
        self._failures = 0
        self._alone: list[TopicPartition] = []
        """Partitions that are yet to be read one by one, because one of them is damaged."""
        self._damaged: Counter[tuple[TopicPartition, int]] = Counter()

    async def poll(self, *, timeout_ms: int) -> Records | Damage:
        """What there is; nothing where polling failed and is to be tried again.

        Raises:
            KafkaUnavailable: this consumer is of no more use.
            InvalidSettings: Kafka does not allow reading.
        """
        if not _fetches(self._consumer):
            raise KafkaUnavailable("Kafka: the client fetches no more: the consumer is built anew")
        if self._alone:
            return await self._poll_alone(self._alone.pop(0))
        try:
            records = await self._getmany(timeout_ms=timeout_ms, max_records=self._room)
        except PollTooLarge:
            self._room = max(1, self._room // SHRINK)
            self._assignment.seek_all()
        except UNREADABLE as error:
            log.warning("batch can't be read", error=str(error) or repr(error))
            self._alone = sorted(self._assignment.positions)
            self._assignment.seek_all()
        except CLIENT_ERRORS as error:
            await self._failed(error)
        else:
            self._failures = 0
            if records:
                self._room = min(self._batch_messages, 2 * self._room)
            return records
        return {}

    async def poll_one(self, partition: TopicPartition, *, max_records: int | None) -> Records:
        """What there is of one partition; nothing where it can't be read like this."""
        room = self._room if max_records is None else max_records
        try:
            return await self._getmany(partition, timeout_ms=CAREFUL_POLL_MS, max_records=room)
        except PollTooLarge:
            self._room = max(1, self._room // SHRINK)
            self._assignment.seek_all()
        except UNREADABLE:
            self._alone = [partition]
            self._assignment.seek_all()
        except CLIENT_ERRORS as error:
            await self._failed(error)
        return {}

    async def keep_membership(self, *, timeout_ms: int) -> None:
        """Polls while everything is paused: who does not poll is put out of the group."""
        try:
            await self._getmany(timeout_ms=timeout_ms, max_records=self._room)
        except (*CLIENT_ERRORS, *UNREADABLE):
            await rest(timeout_ms / 1000, until=self._stopping)

    async def _failed(self, error: Exception) -> None:
        if isinstance(error, kafka.NoOffsetForPartitionError):
            return  # asked before the listener could say where to read
        if isinstance(error, kafka.InconsistentGroupProtocolError):
            raise GroupRefused("Kafka: the members of the group use another protocol") from error
        if isinstance(error, PERMISSION_ERRORS):
            with kafka_errors("read the topics"):
                raise error
        self._failures += 1
        if self._failures >= MAX_FAILURES:
            raise KafkaUnavailable(f"Kafka: polling failed {MAX_FAILURES} times: {error!r}")
        if isinstance(error, kafka.OffsetOutOfRangeError):
            self._assignment.unplace(error.args[0])
        self._assignment.seek_all()
        await rest(0.1 * self._failures, until=self._stopping)

    async def _poll_alone(self, partition: TopicPartition) -> Records | Damage:
        """Reads one partition message by message, up to what can't be decoded."""
        if partition not in self._assignment.positions:
            return {}
        records: list[ConsumerRecord] = []
        size = 0
        try:
            while len(records) < self._batch_messages and size < self._batch_bytes:
                wait_ms = 0 if records else CAREFUL_POLL_MS
                got = await self._getmany(partition, timeout_ms=wait_ms, max_records=1)
                if not got:
                    break
                records += got[partition]
                size += max(0, records[-1].serialized_value_size)
        except UNREADABLE as error:
            self._assignment.seek_all()
            self._alone.append(partition)
            if not records:
                return self._damage(partition, error)
        except CLIENT_ERRORS as error:
            await self._failed(error)
        return {partition: records} if records else {}

    def _damage(self, partition: TopicPartition, error: Exception) -> Records | Damage:
        position = self._assignment.positions.get(partition)
        if position is None:
            return {}
        if isinstance(error, BatchTooLarge):
            told, reason = str(error.args[0]), BATCH_TOO_LARGE
            return Damage(partition=partition, position=position, error=told, reason=reason)
        self._damaged[partition, position] += 1
        if self._damaged[partition, position] < MAX_FAILURES:
            return {}
        return Damage(partition=partition, position=position, error=repr(error))

    async def _getmany(
        self, *partitions: TopicPartition, timeout_ms: int, max_records: int
    ) -> Records:
        """aiokafka's, ended by a stop: it waits without limit while the group rebalances.

        Raises:
            KafkaUnavailable: that took too long; a consumer built anew may do better.
        """
        begin_poll()
        poll = asyncio.ensure_future(
            self._consumer.getmany(*partitions, timeout_ms=timeout_ms, max_records=max_records)
        )
        stop = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait(
                {poll, stop},
                timeout=self._patience_seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
            is_stuck = not poll.done() and not self._stopping.is_set()
        finally:
            stop.cancel()
            poll.cancel()  # does nothing where it is done
        if not poll.done():
            await asyncio.wait({poll})
        if is_stuck:
            raise KafkaUnavailable(
                f"Kafka: the group came to no assignment for {self._patience_seconds:g} s: "
                "the consumer is built anew"
            )
        records: Records = {} if poll.cancelled() else poll.result()
        return records


def _fetches(consumer: AIOKafkaConsumer) -> bool:
    """Whether the client's own task lives that fetches messages.

    Nobody is told of its end. What ends it is uvloop's RuntimeError for a connection that was
    reset just before a write: no error of a network, to aiokafka.
    """
    task: asyncio.Task[None] = consumer._fetcher.error_future  # noqa: SLF001
    return not task.done()
