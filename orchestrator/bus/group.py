"""Whose consumer group it is, so that no other database and no other program shares its messages.

Kafka admits a member only where all members share a protocol, which is only a name. Ours is that of
the database, so that Kafka itself refuses everyone else. Workers of an earlier release know only
`roundrobin`: it is offered as well for as long as one of them is registered in PostgreSQL.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from aiokafka import TopicPartition
from aiokafka import errors as kafka
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata
from aiokafka.structs import OffsetAndMetadata

from orchestrator.bus.connection import CLIENT_ERRORS, kafka_errors
from orchestrator.bus.options import OWN_PREFIX, PREFIX, BusOptions
from orchestrator.bus.topics import POLL_SECONDS, VISIBLE_SECONDS, admin
from orchestrator.domain.errors import OrchestratorError
from orchestrator.store.service import Identity

MARK = "orchestrator "
"""Of the metadata of committed offsets; behind it stands the service's id. Stored: never change."""
DESCRIBE_SECONDS = 5.0
SHOWN_MEMBERS = 5


class _Assignor(RoundRobinPartitionAssignor):  # type: ignore[misc]  # aiokafka has no types
    """Kafka's own round robin, under another name, and with a number of the member's own."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.joins = 0

    def metadata(self, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        # Without something new in it a member that joins again gets what it had.
        return ConsumerProtocolMemberMetadata(self.version, list(topics), b"%d" % self.joins)


class Group:
    """How one consumer takes part in its group."""

    def __init__(self, options: BusOptions, identity: Identity, *, cluster_id: str) -> None:
        self.cluster_id = cluster_id
        self._own = _Assignor(protocol_name(identity))
        self._earlier = _Assignor(RoundRobinPartitionAssignor.name)
        self.assignors = [self._own]
        """For aiokafka, which looks at them at each join."""
        self.member = member_name(options, identity)
        self.mark = f"{MARK}{identity.service}"

    def admit_earlier_releases(self, wanted: bool) -> bool:  # noqa: FBT001 - the subject
        """Whether that is a change: then the member has to join again."""
        if wanted == (len(self.assignors) > 1):
            return False
        self.assignors[:] = [self._own, self._earlier] if wanted else [self._own]
        return True

    def renew(self) -> None:
        """The next join makes the group share out all partitions anew."""
        self._own.joins += 1
        self._earlier.joins += 1


def protocol_name(identity: Identity) -> str:
    return f"orchestrator-{identity.place}"


def member_name(options: BusOptions, identity: Identity) -> str | None:
    """The worker's name, with what it reads and for whom.

    Kafka gives a member that is back under its name what it had, whatever it subscribes to by now.
    """
    if options.member is None:
        return None
    reads = "/".join((identity.place, *options.topics.inputs))
    return f"{options.member}.{sha256(reads.encode()).hexdigest()[:8]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupView:
    """What Kafka says of a group; its members are known only while they agree."""

    protocol: str
    members: tuple[str, ...]
    services: frozenset[str]
    """That have committed offsets in it."""


async def look_at_group(options: BusOptions) -> tuple[str, GroupView]:
    """The cluster's id, and what it knows of our group.

    Raises:
        KafkaUnavailable, InvalidSettings: it says nothing.
    """
    async with admin(options) as client:
        with kafka_errors("look at the consumer group"):
            cluster = await client.describe_cluster()
            offsets = await _offsets(client, options)
            protocol, members = await _members(client, options.group_id)
    marks = {offset.metadata or "" for offset in offsets.values()}
    services = frozenset(m.removeprefix(MARK) for m in marks if m.startswith(MARK))
    view = GroupView(protocol=protocol, members=members, services=services)
    return str(cluster["cluster_id"]), view


async def _offsets(client: Any, options: BusOptions) -> Mapping[TopicPartition, OffsetAndMetadata]:
    """A cluster that never had a group needs a moment to find a place for the first one."""
    partitions = [
        TopicPartition(topic["topic"], partition["partition"])
        for topic in await client.describe_topics(list(options.topics.inputs))
        for partition in topic["partitions"]
    ]
    deadline = time.monotonic() + VISIBLE_SECONDS
    while True:
        try:
            found: Mapping[TopicPartition, OffsetAndMetadata]
            found = await client.list_consumer_group_offsets(
                options.group_id, partitions=partitions
            )
        except kafka.KafkaError as error:
            if not error.retriable or time.monotonic() > deadline:
                raise
        else:
            return found
        await asyncio.sleep(POLL_SECONDS)


async def _members(client: Any, group_id: str) -> tuple[str, tuple[str, ...]]:
    """Only for people: Kafka also calls a group dead whose members live."""
    try:
        async with asyncio.timeout(DESCRIBE_SECONDS):
            (answer,) = await client.describe_consumer_groups([group_id])
    except (*CLIENT_ERRORS, TimeoutError):
        return "", ()
    (group,) = answer.to_object()["groups"]
    members = sorted({f"{m['client_id']} at {m['client_host']}" for m in group["members"]})
    return group["protocol"], tuple(members)


ADVICE = (
    "two services must not read the same topics. Set DATABASE_URL to the database of the service, "
    f"or give this one other topics ({OWN_PREFIX}TOPIC_…) and another {PREFIX}GROUP_ID"
)


def owner_problem(options: BusOptions, view: GroupView, identity: Identity) -> str | None:
    """Why the group is not ours to join, also while nobody is in it."""
    others = view.services - {identity.service}
    if not others:
        return None
    return (
        f"consumer group {options.group_id!r} belongs to service {min(others)}, but DATABASE_URL "
        f"names the database of service {identity.service}: {ADVICE}. If this database replaces "
        "that one for good, stop all workers and delete the group with Kafka's own tools "
        f"(`kafka-consumer-groups.sh --delete --group {options.group_id}`)"
    )


def foreign_members(
    options: BusOptions, view: GroupView, identity: Identity, *, admits_earlier_releases: bool
) -> str | None:
    """What is wrong with who is in the group; None also where Kafka does not say who is."""
    ours = {"", protocol_name(identity)}
    if admits_earlier_releases:
        ours.add(RoundRobinPartitionAssignor.name)
    return None if view.protocol in ours else refusal(options, view)


def refusal(options: BusOptions, view: GroupView | None) -> str:
    """Why Kafka does not let us into the group."""
    members = view.members[:SHOWN_MEMBERS] if view else ()
    who = ", ".join(members) or "Kafka does not say which"
    return (
        f"Kafka refuses workers of this service as members of consumer group "
        f"{options.group_id!r}: its members ({who}) use another database or are another program; "
        f"{ADVICE}, or stop those members"
    )


async def told_by(options: BusOptions) -> GroupView | None:
    """What Kafka says of the group, where it says anything."""
    try:
        _, view = await look_at_group(options)
    except OrchestratorError:
        return None
    return view
