"""Open transactions of producers, behind which Kafka hands out no message: whose they are.

aiokafka has none of the requests that tell it; brokers have them since Kafka 2.8 and 3.0.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)

from orchestrator.bus.connection import CLIENT_ERRORS, client_arguments, kafka_errors
from orchestrator.bus.options import BusOptions

PATIENCE_SECONDS = 10.0
"""For how long a transaction may be open before somebody is told."""
DESCRIBE_PRODUCERS, DESCRIBE_TRANSACTIONS, LIST_TRANSACTIONS = 61, 65, 66
NONE = -1

_STRING = CompactString("utf-8")
_TAGS = ("tags", TaggedFields)


class _ProducersResponse(Response):  # type: ignore[misc]  # aiokafka has no types
    API_KEY, API_VERSION = DESCRIBE_PRODUCERS, 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            CompactArray(
                ("name", _STRING),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("error_code", Int16),
                        ("error_message", _STRING),
                        (
                            "producers",
                            CompactArray(
                                ("producer_id", Int64),
                                ("producer_epoch", Int32),
                                ("last_sequence", Int32),
                                ("last_timestamp", Int64),
                                ("coordinator_epoch", Int32),
                                ("transaction_start", Int64),
                                _TAGS,
                            ),
                        ),
                        _TAGS,
                    ),
                ),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class _ProducersRequest0(RequestStruct):  # type: ignore[misc]
    API_KEY, API_VERSION = DESCRIBE_PRODUCERS, 0
    RESPONSE_TYPE = _ProducersResponse
    FLEXIBLE_VERSION = True
    SCHEMA = Schema(
        ("topics", CompactArray(("name", _STRING), ("partitions", CompactArray(Int32)), _TAGS)),
        _TAGS,
    )


class _ProducersRequest(Request[_ProducersRequest0]):  # type: ignore[misc]
    API_KEY = DESCRIBE_PRODUCERS

    def __init__(self, partition: TopicPartition) -> None:
        self._partition = partition

    def build(self, request_struct_class: Any) -> Any:
        return request_struct_class([(self._partition.topic, [self._partition.partition], {})], {})


class _ListResponse(Response):  # type: ignore[misc]
    API_KEY, API_VERSION = LIST_TRANSACTIONS, 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("unknown_state_filters", CompactArray(_STRING)),
        (
            "transactions",
            CompactArray(
                ("transactional_id", _STRING), ("producer_id", Int64), ("state", _STRING), _TAGS
            ),
        ),
        _TAGS,
    )


class _ListRequest0(RequestStruct):  # type: ignore[misc]
    API_KEY, API_VERSION = LIST_TRANSACTIONS, 0
    RESPONSE_TYPE = _ListResponse
    FLEXIBLE_VERSION = True
    SCHEMA = Schema(
        ("state_filters", CompactArray(_STRING)), ("producer_ids", CompactArray(Int64)), _TAGS
    )


class _ListRequest(Request[_ListRequest0]):  # type: ignore[misc]
    API_KEY = LIST_TRANSACTIONS

    def __init__(self, producer_id: int) -> None:
        self._producer_id = producer_id

    def build(self, request_struct_class: Any) -> Any:
        return request_struct_class([], [self._producer_id], {})


class _TransactionsResponse(Response):  # type: ignore[misc]
    API_KEY, API_VERSION = DESCRIBE_TRANSACTIONS, 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "transactions",
            CompactArray(
                ("error_code", Int16),
                ("transactional_id", _STRING),
                ("state", _STRING),
                ("timeout_ms", Int32),
                ("start_ms", Int64),
                ("producer_id", Int64),
                ("producer_epoch", Int16),
                (
                    "topics",
                    CompactArray(("name", _STRING), ("partitions", CompactArray(Int32)), _TAGS),
                ),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class _TransactionsRequest0(RequestStruct):  # type: ignore[misc]
    API_KEY, API_VERSION = DESCRIBE_TRANSACTIONS, 0
    RESPONSE_TYPE = _TransactionsResponse
    FLEXIBLE_VERSION = True
    SCHEMA = Schema(("transactional_ids", CompactArray(_STRING)), _TAGS)


class _TransactionsRequest(Request[_TransactionsRequest0]):  # type: ignore[misc]
    API_KEY = DESCRIBE_TRANSACTIONS

    def __init__(self, transactional_id: str) -> None:
        self._transactional_id = transactional_id

    def build(self, request_struct_class: Any) -> Any:
        return request_struct_class([self._transactional_id], {})


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenTransaction:
    """Of one producer, in one partition."""

    producer_id: int
    start_offset: int
    transactional_id: str | None = None
    """None where Kafka does not tell this user."""
    seconds: float | None = None
    """Since its begin."""
    timeout_seconds: float | None = None
    """After which Kafka aborts it."""

    @property
    def text(self) -> str:
        named = f" of transactional id {self.transactional_id!r}" if self.transactional_id else ""
        since = "" if self.seconds is None else f", open for {self.seconds:.0f} s"
        end = "" if self.timeout_seconds is None else f", aborted after {self.timeout_seconds:g} s"
        return f"the transaction{named} (producer id {self.producer_id}{since}{end})"


def blocked_text(
    partition: TopicPartition, *, at: int, behind: int, found: Sequence[OpenTransaction]
) -> str:
    """What an operator has to know of a partition behind whose last stable offset messages lie."""
    what = "; ".join(t.text for t in found) or "a transaction, of which Kafka tells no more,"
    topic, number = partition
    return (
        f"{behind} messages of {topic}/{number} wait from offset {at} on until {what} ends. Close "
        f"its producer, or abort it: `kafka-transactions.sh abort --topic {topic} --partition "
        f"{number} --start-offset {found[0].start_offset if found else at}`"
    )


async def open_transactions(client: Any, partition: TopicPartition) -> list[OpenTransaction]:
    """The oldest first; none where Kafka does not tell. `client` is aiokafka's own."""
    try:
        found = await _producers(client, partition)
        return [await _described(client, producer) for producer in found]
    except (*CLIENT_ERRORS, NotImplementedError, TimeoutError):
        return []


async def blocked_partitions(options: BusOptions) -> list[str]:
    """Of the topics that are read: where messages wait behind a transaction that is open for long.

    Raises:
        KafkaUnavailable, InvalidSettings: Kafka does not say where its partitions end.
    """
    arguments = client_arguments(options)
    with kafka_errors("ask for the partitions' ends"):
        async with (
            AIOKafkaConsumer(*options.topics.inputs, **arguments) as every,
            AIOKafkaConsumer(**arguments, isolation_level="read_committed") as stable,
        ):
            partitions = sorted(every.assignment())
            ends = await every.end_offsets(partitions)
            begins = await stable.end_offsets(partitions)
            return [
                text
                for p in partitions
                if begins[p] < ends[p]
                and (text := await _blocked_for_long(every, p, at=begins[p], end=ends[p]))
            ]


async def _blocked_for_long(
    consumer: AIOKafkaConsumer, partition: TopicPartition, *, at: int, end: int
) -> str | None:
    found = await open_transactions(consumer._client, partition)  # noqa: SLF001
    if any(t.seconds is not None and t.seconds < PATIENCE_SECONDS for t in found[:1]):
        return None
    return blocked_text(partition, at=at, behind=end - at, found=found)


async def _producers(client: Any, partition: TopicPartition) -> list[dict[str, Any]]:
    leader = client.cluster.leader_for_partition(partition)
    answer = (await client.send(leader, _ProducersRequest(partition))).to_object()
    open_ = [
        producer
        for topic in answer["topics"]
        for told in topic["partitions"]
        for producer in told["producers"] or ()
        if producer["transaction_start"] != NONE
    ]
    return sorted(open_, key=lambda producer: int(producer["transaction_start"]))


async def _described(client: Any, producer: dict[str, Any]) -> OpenTransaction:
    """With what the transaction's coordinator knows, which may be any broker."""
    producer_id, start = producer["producer_id"], producer["transaction_start"]
    for broker in client.cluster.brokers():
        listed = (await client.send(broker.nodeId, _ListRequest(producer_id))).to_object()
        for transaction in listed["transactions"] or ():
            id_ = transaction["transactional_id"]
            answer = (await client.send(broker.nodeId, _TransactionsRequest(id_))).to_object()
            (told,) = answer["transactions"]
            since = time.time() - told["start_ms"] / 1000 if told["start_ms"] > 0 else None
            return OpenTransaction(
                producer_id=producer_id,
                start_offset=start,
                transactional_id=id_,
                seconds=since,
                timeout_seconds=told["timeout_ms"] / 1000,
            )
    return OpenTransaction(producer_id=producer_id, start_offset=start)
