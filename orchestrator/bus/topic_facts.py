"""What the brokers say of our topics: their settings, and what this user may do with them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from orchestrator.bus.connection import kafka_errors
from orchestrator.bus.options import BusOptions
from orchestrator.bus.topic_ids import MetadataRequest
from orchestrator.bus.topics import admin

READ, WRITE = 3, 4
"""Bits of what a user may do, by Kafka's numbers of operations."""
NOT_SAID = -(2**31)


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicFacts:
    """Of one topic."""

    name: str
    replicas: int
    """Of the partition that has the fewest."""
    denied: tuple[str, ...] = ()
    """Which of reading and writing, as far as it is needed, this user may not do."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """By Kafka's names; empty where this user may not see them."""


async def look_at_topics(options: BusOptions) -> list[TopicFacts]:
    """Of our topics those that are there. Raises `KafkaUnavailable` or `InvalidSettings`."""
    async with admin(options) as client:
        with kafka_errors("describe the topics"):
            found = await _metadata(client, options.topics.all)
            settings = await _settings(client, [t["name"] for t in found if not t["error_code"]])
    return [
        TopicFacts(
            name=topic["name"],
            replicas=min((len(p["replicas"]) for p in topic["partitions"]), default=0),
            denied=_denied(topic, options),
            settings=settings.get(topic["name"], {}),
        )
        for topic in found
        if not topic["error_code"]
    ]


def _denied(topic: Mapping[str, Any], options: BusOptions) -> tuple[str, ...]:
    allowed = topic["authorized_operations"]
    if allowed == NOT_SAID:
        return ()
    is_input = topic["name"] in options.topics.inputs
    needed = {"read": READ} if is_input else {"write": WRITE}
    return tuple(word for word, bit in needed.items() if not allowed & 1 << bit)


async def _metadata(
    client: AIOKafkaAdminClient, names: Sequence[str]
) -> Sequence[Mapping[str, Any]]:
    try:
        request = MetadataRequest(names, with_rights=True)
        answer = await client._send_request(request)  # noqa: SLF001 - it has no method for this
    except NotImplementedError:
        return []  # a broker before Kafka 2.8
    topics: Sequence[Mapping[str, Any]] = answer.to_object()["topics"]
    return topics


async def _settings(
    client: AIOKafkaAdminClient, names: Sequence[str]
) -> Mapping[str, Mapping[str, str]]:
    if not names:
        return {}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    answers = await client.describe_configs(resources)
    return {
        name: {entry[0]: entry[1] for entry in entries}
        for answer in answers
        for code, _, _, name, entries in answer.resources
        if code == 0
    }
