"""Kafka's own id of each topic: a topic that was deleted and made anew has another.

aiokafka speaks the metadata protocol only up to version 5; ids came with version 10, Kafka 2.8.
"""

import time
from base64 import urlsafe_b64encode
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from orchestrator.bus.connection import answered_within, kafka_errors
from orchestrator.domain.errors import KafkaUnavailable

TIMEOUT_SECONDS = 5.0
INTERVAL_SECONDS = 10.0
METADATA = 3
VERSION = 10
NO_ID = bytes(16)
UNKNOWN_TOPIC = 3


class _Uuid(AbstractType):  # type: ignore[misc]  # aiokafka has no types
    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        return data.read(16)


_STRING = CompactString("utf-8")
_PARTITION = (
    ("error_code", Int16),
    ("partition", Int32),
    ("leader", Int32),
    ("leader_epoch", Int32),
    ("replicas", CompactArray(Int32)),
    ("isr", CompactArray(Int32)),
    ("offline_replicas", CompactArray(Int32)),
    ("tags", TaggedFields),
)
_TOPIC = (
    ("error_code", Int16),
    ("name", _STRING),
    ("topic_id", _Uuid),
    ("is_internal", Boolean),
    ("partitions", CompactArray(*_PARTITION)),
    ("authorized_operations", Int32),
    ("tags", TaggedFields),
)
_BROKER = (
    ("node_id", Int32),
    ("host", _STRING),
    ("port", Int32),
    ("rack", _STRING),
    ("tags", TaggedFields),
)


class _MetadataResponse(Response):  # type: ignore[misc]
    API_KEY = METADATA
    API_VERSION = VERSION
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("brokers", CompactArray(*_BROKER)),
        ("cluster_id", _STRING),
        ("controller_id", Int32),
        ("topics", CompactArray(*_TOPIC)),
        ("authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class _MetadataRequest10(RequestStruct):  # type: ignore[misc]
    API_KEY = METADATA
    API_VERSION = VERSION
    RESPONSE_TYPE = _MetadataResponse
    FLEXIBLE_VERSION = True
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(("topic_id", _Uuid), ("name", _STRING), ("tags", TaggedFields)),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class MetadataRequest(Request[_MetadataRequest10]):  # type: ignore[misc]
    """Of some topics; `with_rights` also what this user may do with them."""

    API_KEY = METADATA

    def __init__(self, topics: Collection[str], *, with_rights: bool = False) -> None:
        self._with_rights = with_rights
        self._topics: list[tuple[bytes, str, dict[int, bytes]]] = [
            (NO_ID, name, {}) for name in topics
        ]

    def build(self, request_struct_class: Any) -> Any:
        return request_struct_class(self._topics, False, False, self._with_rights, {})  # noqa: FBT003


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What Kafka says of some topics."""

    cluster_id: str
    ids: Mapping[str, str]
    """As Kafka's own tools write them; a topic without one is left out."""
    missing: frozenset[str]


async def ask(consumer: AIOKafkaConsumer, topics: Collection[str]) -> Known | None:
    """What Kafka knows of these topics; None where it is older than ids.

    Raises:
        KafkaUnavailable: ask again later.
    """
    client = consumer._client  # noqa: SLF001 - aiokafka offers no requests of one's own
    with kafka_errors("ask for the topics' ids"):
        async with answered_within(consumer, TIMEOUT_SECONDS):
            try:
                response = await client.send(client.get_random_node(), MetadataRequest(topics))
            except NotImplementedError:
                return None  # a broker before Kafka 2.8
    found = response.to_object()
    return Known(
        cluster_id=found["cluster_id"],
        ids={
            topic["name"]: urlsafe_b64encode(topic["topic_id"]).rstrip(b"=").decode()
            for topic in found["topics"]
            if topic["error_code"] == 0 and topic["topic_id"] != NO_ID
        },
        missing=frozenset(t["name"] for t in found["topics"] if t["error_code"] == UNKNOWN_TOPIC),
    )


async def topic_ids(consumer: AIOKafkaConsumer, topics: Collection[str]) -> Mapping[str, str]:
    """The ids of these topics, of those that have one.

    Raises:
        KafkaUnavailable: ask again later.
    """
    known = await ask(consumer, topics)
    return known.ids if known else {}


class KnownTopics:
    """What a consumer reads; it looks now and then whether it is still there."""

    def __init__(self, consumer: AIOKafkaConsumer, *, cluster_id: str) -> None:
        self._consumer = consumer
        self._cluster_id = cluster_id
        self._ids: dict[str, str] = {}
        self._looked = time.monotonic()

    def note(self, ids: Mapping[str, str]) -> None:
        """Read under these ids from now on."""
        self._ids.update(ids)

    async def made_anew(self) -> frozenset[str]:
        """Topics that have another id than the one noted; costs nothing between two looks.

        Raises:
            KafkaUnavailable: the topics, or the whole cluster, are no more what the consumer
                joined: aiokafka would wait for ever for what was there.
        """
        now = time.monotonic()
        if not self._ids or now - self._looked < INTERVAL_SECONDS:
            return frozenset()
        self._looked = now
        try:
            known = await ask(self._consumer, self._ids)
        except KafkaUnavailable:
            return frozenset()  # whoever reads notices that as well, and tells it
        if known is None:
            return frozenset()
        if known.cluster_id != self._cluster_id:
            raise KafkaUnavailable(f"Kafka is another cluster now: {known.cluster_id}")
        if known.missing:
            raise KafkaUnavailable(
                f"Kafka: topics were deleted: {', '.join(sorted(known.missing))}"
            )
        return frozenset(topic for topic, id_ in known.ids.items() if id_ != self._ids[topic])
