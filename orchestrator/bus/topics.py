"""The topics: made on demand, and the cluster that they are in."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, fields
from typing import Any

from aiokafka import errors as kafka
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.protocol.metadata import MetadataRequest

from orchestrator.bus.connection import CLIENT_ERRORS, check, client_arguments, kafka_errors
from orchestrator.bus.options import OWN_PREFIX, PREFIX, BusOptions, Topics
from orchestrator.domain.errors import InvalidSettings, KafkaUnavailable

LETTER_OVERHEAD_BYTES = 64 * 1024
"""By how much a dead letter may exceed the message in it."""
VISIBLE_SECONDS = 15.0
"""How long a new topic may take until it has leaders, from the first try to create it."""
POLL_SECONDS = 0.05


@asynccontextmanager
async def admin(options: BusOptions) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client that is closed again.

    Raises:
        InvalidSettings, KafkaUnavailable: see `connection.check`.
    """
    try:
        with kafka_errors("connect"):
            client = await _connect(options)
    except KafkaUnavailable:
        await check(options)  # says why, where the broker said so
        raise
    try:
        yield client
    finally:
        with suppress(*CLIENT_ERRORS):  # what ended its own task is told again here
            await client.close()


async def _connect(options: BusOptions) -> AIOKafkaAdminClient:
    """Tries anew while the brokers that answer name none: they may just have come back."""
    deadline = time.monotonic() + VISIBLE_SECONDS
    while True:
        async with AsyncExitStack() as on_failure:
            client = AIOKafkaAdminClient(**client_arguments(options))
            on_failure.push_async_callback(client.close)
            await client.start()
            if client._client.cluster.brokers():  # noqa: SLF001 - this one would ask in minutes
                on_failure.pop_all()
                return client
        if time.monotonic() > deadline:
            raise TimeoutError(f"no broker took part in its cluster within {VISIBLE_SECONDS:g} s")
        await asyncio.sleep(POLL_SECONDS)


async def missing_topics(
    options: BusOptions, names: Sequence[str] | None = None
) -> tuple[str, ...]:
    """Which of these topics, or of all ours, the cluster does not have."""
    async with admin(options) as client:
        with kafka_errors("list the topics"):
            listed = await _listed(client, options.topics.all if names is None else names)
    if listed.hidden:
        raise InvalidSettings(not_allowed(options, listed.hidden))
    return listed.missing


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listed:
    """Topics that the brokers do not list."""

    missing: tuple[str, ...]
    hidden: tuple[str, ...]
    """Not for this user: whether they are there, nobody tells him."""


async def _listed(client: AIOKafkaAdminClient, names: Sequence[str]) -> _Listed:
    present = set(await client.list_topics())
    absent = [name for name in names if name not in present]
    if not absent:
        return _Listed(missing=(), hidden=())
    # The list leaves out what the user may not see. Who asks by name is told; unless he says so,
    # he also creates the topic.
    request = MetadataRequest(absent, allow_auto_topic_creation=False)
    answer = await client._send_request(request)  # noqa: SLF001 - the public way creates topics
    codes = {topic["topic"]: topic["error_code"] for topic in answer.to_object()["topics"]}
    hidden = [n for n in absent if codes.get(n) == kafka.TopicAuthorizationFailedError.errno]
    return _Listed(missing=tuple(n for n in absent if n not in hidden), hidden=tuple(hidden))


def not_allowed(options: BusOptions, names: Sequence[str]) -> str:
    """That the user lacks rights, and which: for topics that may well be there."""
    grants = "; ".join(f"{_RIGHTS[_part(options, name)]} on {name!r}" for name in names)
    return (
        f"Kafka does not allow this user to see topic {', '.join(map(repr, names))}, whether it is "
        f"there or not: grant {grants}; or change {PREFIX}SASL_USERNAME"
    )


_RIGHTS = {
    "tasks": "Read, and Write for `orchestrator publish`,",
    "events": "Read, and Write for `orchestrator publish`,",
    "task_updates": "Write",
    "dead_letters": "Write, and Read for `orchestrator dead-letters`,",
}


def _part(options: BusOptions, name: str) -> str:
    return next(
        field.name for field in fields(Topics) if getattr(options.topics, field.name) == name
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterView:
    """What an operator has to know of the cluster."""

    cluster_id: str
    brokers: int
    topics: dict[str, int]
    """Partitions of those of our topics that are there."""
    hidden: tuple[str, ...]
    """Those of our topics that this user may not see."""


async def look_at_cluster(options: BusOptions) -> ClusterView:
    """Raises `KafkaUnavailable` or `InvalidSettings`, with the reason."""
    async with admin(options) as client:
        with kafka_errors("describe the cluster"):
            cluster = await client.describe_cluster()
            listed = await _listed(client, options.topics.all)
            absent = {*listed.missing, *listed.hidden}
            present = sorted(set(options.topics.all) - absent)
            described = await client.describe_topics(present) if present else []
    return ClusterView(
        cluster_id=str(cluster["cluster_id"]),
        brokers=len(cluster["brokers"]),
        topics={topic["topic"]: len(topic["partitions"]) for topic in described},
        hidden=listed.hidden,
    )


async def ensure_topics(options: BusOptions, names: Sequence[str] | None = None) -> tuple[str, ...]:
    """Creates what is missing of these topics, or of all ours; answers what it created.

    Raises:
        InvalidSettings: a topic is missing and may not be created.
    """
    missing = await missing_topics(options, names)
    if not missing:
        return ()
    if not options.create_topics:
        raise InvalidSettings(
            f"Kafka has no topic {', '.join(map(repr, missing))}: create it with `orchestrator "
            f"topics create`, or set {OWN_PREFIX}CREATE_TOPICS=true"
        )
    await create_topics(options, missing)
    return missing


async def create_topics(options: BusOptions, names: tuple[str, ...]) -> None:
    """Creates these topics, ready for use; one that is there already is left as it is."""
    topics = [_new_topic(options, name) for name in names]
    async with admin(options) as client:
        with kafka_errors("create topics"):
            try:
                async with asyncio.timeout(VISIBLE_SECONDS):
                    await _create(client, topics)
                    await _wait_for_leaders(client, names)
            except TimeoutError:
                named = ", ".join(map(repr, names))
                told = f"{named} were not there, with leaders, within {VISIBLE_SECONDS:g} s"
                raise TimeoutError(told) from None


async def _create(client: AIOKafkaAdminClient, topics: list[NewTopic]) -> None:
    """Tries until the brokers have a controller and take replicas: they may just have come back."""
    while True:
        try:
            return _check_created(await client.create_topics(topics))
        except AttributeError as error:
            if error.name != "nodeId":  # aiokafka's, of a controller that no broker names
                raise
        except kafka.InvalidReplicationFactorError as error:
            if "fenced" not in str(error):  # the word for who has yet to report to the controller
                raise
        await asyncio.sleep(POLL_SECONDS)


def _check_created(response: Any) -> None:
    for name, code, *rest in response.topic_errors:
        error = kafka.for_code(code)
        if error is kafka.InvalidTopicError:
            why = rest[0] if rest and rest[0] else "its name is not valid"
            raise InvalidSettings(
                f"{OWN_PREFIX}TOPIC_…: Kafka refuses to create topic {name!r}: {why}; choose "
                "another name"
            )
        if error not in (kafka.NoError, kafka.TopicAlreadyExistsError):
            raise error(f"topic {name!r}: {rest[0] if rest and rest[0] else ''}")


async def _wait_for_leaders(client: AIOKafkaAdminClient, names: tuple[str, ...]) -> None:
    while not await _have_leaders(client, names):  # noqa: ASYNC110 - nobody tells us
        await asyncio.sleep(POLL_SECONDS)


async def _have_leaders(client: AIOKafkaAdminClient, names: tuple[str, ...]) -> bool:
    """Whether the brokers know the topics: a group that joins before gets no partitions of them."""
    described = await client.describe_topics(list(names))
    return all(
        topic["error_code"] == 0
        and topic["partitions"]
        and all(partition["leader"] >= 0 for partition in topic["partitions"])
        for topic in described
    )


def _new_topic(options: BusOptions, name: str) -> NewTopic:
    configs = {}
    if options.retention is not None:
        configs["retention.ms"] = str(int(options.retention.total_seconds() * 1000))
    if name == options.topics.dead_letters:
        # A letter is its original and why it is here: larger than the largest that came in.
        largest = max(options.max_message_bytes, options.max_publish_bytes)
        configs["max.message.bytes"] = str(largest + LETTER_OVERHEAD_BYTES)
    # aiokafka wants the empty mapping exactly where the broker is to choose.
    assignments: dict[int, list[int]] | None = {} if options.replication == -1 else None
    return NewTopic(
        name=name,
        num_partitions=options.partitions,
        replication_factor=options.replication,
        replica_assignments=assignments,
        topic_configs=configs,
    )


async def cluster_id(options: BusOptions) -> str:
    """The cluster's own id: offsets mean something only together with it."""
    async with admin(options) as client:
        with kafka_errors("ask for the cluster's id"):
            described = await client.describe_cluster()
    return str(described["cluster_id"])
