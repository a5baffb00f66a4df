"""A right that is missing is told apart from a topic that is missing, by a broker that has ACLs."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclBinding, AclOperation, AclPermissionType
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType

from orchestrator.bus.consumer import Consumer
from orchestrator.bus.options import BusOptions, Security
from orchestrator.bus.topics import create_topics, ensure_topics, look_at_cluster, missing_topics
from orchestrator.cli.doctor import _kafka
from orchestrator.domain.errors import InvalidSettings
from orchestrator.local.kafka import LocalKafka
from orchestrator.store.database import Database
from tests.fakes.bus import CountingEngine, bus_options, running_consumer, until

JAAS = (
    "org.apache.kafka.common.security.plain.PlainLoginModule required "
    'user_admin="secret" user_me="secret";'
)
ALL = ("tasks", "events", "task-updates", "dead-letters")


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def guarded(server_folder: Path) -> AsyncIterator[LocalKafka]:
    """A broker that asks who it is, and lets `admin` do all and others what is granted."""
    server = LocalKafka(
        server_folder / "authorizing-kafka",
        extra_properties={
            "listener.security.protocol.map": (
                "CLIENT:SASL_PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT"
            ),
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.client.plain.sasl.jaas.config": JAAS,
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:admin;User:ANONYMOUS",
            "auto.create.topics.enable": "true",
        },
    )
    await server.start()
    yield server
    await server.stop()


def options_of(server: LocalKafka, user: str, prefix: str) -> BusOptions:
    return replace(
        bus_options(server.bootstrap_servers, prefix),
        create_topics=False,
        security=Security(
            security_protocol="SASL_PLAINTEXT", sasl_username=user, sasl_password="secret"
        ),
    )


async def grant(server: LocalKafka, operation: str, names: Sequence[str], kind: str) -> None:
    admin = AdminClient(
        {
            "bootstrap.servers": server.bootstrap_servers,
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "PLAIN",
            "sasl.username": "admin",
            "sasl.password": "secret",
        }
    )
    bindings = [
        AclBinding(
            getattr(ResourceType, kind),
            name,
            ResourcePatternType.LITERAL,
            "User:me",
            "*",
            getattr(AclOperation, operation),
            AclPermissionType.ALLOW,
        )
        for name in names
    ]
    for future in admin.create_acls(bindings).values():
        await asyncio.wrap_future(future)


async def test_topics_that_are_missing_are_named_as_missing(guarded: LocalKafka) -> None:
    options = options_of(guarded, "admin", "absent-")
    with pytest.raises(InvalidSettings, match="Kafka has no topic 'absent-tasks'"):
        await ensure_topics(options)
    assert await missing_topics(options) == options.topics.all  # asking for them made none


@pytest.mark.parametrize("are_there", [True, False])
async def test_topics_that_are_hidden_are_no_missing_topics(
    guarded: LocalKafka, topic_prefix: str, are_there: bool
) -> None:
    if are_there:
        admin = options_of(guarded, "admin", topic_prefix)
        await create_topics(admin, admin.topics.all)
    options = options_of(guarded, "me", topic_prefix)
    for may_create in (False, True):
        with pytest.raises(InvalidSettings) as caught:
            await ensure_topics(replace(options, create_topics=may_create))
        assert f"not allow this user to see topic '{topic_prefix}tasks'" in str(caught.value)
        assert f"Write on '{topic_prefix}task-updates'" in str(caught.value)
        assert "create it" not in str(caught.value)


async def test_what_is_missing_is_told_apart_topic_by_topic(
    guarded: LocalKafka, topic_prefix: str
) -> None:
    admin = options_of(guarded, "admin", topic_prefix)
    await create_topics(admin, (admin.topics.tasks, admin.topics.events))
    seen = (admin.topics.tasks, admin.topics.task_updates)
    await grant(guarded, "DESCRIBE", seen, "TOPIC")
    options = options_of(guarded, "me", topic_prefix)

    async def is_granted() -> bool:
        return admin.topics.tasks in (await look_at_cluster(options)).topics

    await until(is_granted)
    cluster = await look_at_cluster(options)
    assert list(cluster.topics) == [options.topics.tasks]
    assert cluster.hidden == (options.topics.events, options.topics.dead_letters)


async def granted(server: LocalKafka, prefix: str, **rights: str) -> BusOptions:
    """Options of a user who has these rights to our topics, and to our group."""
    admin = options_of(server, "admin", prefix)
    await create_topics(admin, admin.topics.all)
    for kind, operation in rights.items():
        names = admin.topics.all if kind == "TOPIC" else (admin.group_id,)
        await grant(server, operation, names, kind)
    options = options_of(server, "me", prefix)

    async def is_granted() -> bool:
        return not (await look_at_cluster(options)).hidden

    await until(is_granted)
    return options


async def test_a_group_that_may_not_be_joined_ends_the_reader_with_the_right_that_is_missing(
    guarded: LocalKafka, database: Database, topic_prefix: str
) -> None:
    options = await granted(guarded, topic_prefix, TOPIC="READ")
    consumer = Consumer(database, options, engine=CountingEngine().as_engine())
    with pytest.raises(InvalidSettings, match=r"does not allow .* GroupAuthorizationFailed"):
        async with asyncio.timeout(30):
            await consumer.run()


async def test_topics_that_may_be_seen_and_not_read_are_told_as_such(
    guarded: LocalKafka, database: Database, topic_prefix: str
) -> None:
    options = await granted(guarded, topic_prefix, TOPIC="DESCRIBE", GROUP="READ")
    async with running_consumer(database, options) as consumer:
        says = "does not allow this user to read the topics: TopicAuthorizationFailed"
        await until(lambda: any(says in problem for problem in consumer.state.problems))


async def test_doctor_says_which_rights_are_missing(guarded: LocalKafka, topic_prefix: str) -> None:
    findings = [finding async for finding in _kafka(options_of(guarded, "me", topic_prefix))]
    assert [(finding.name, finding.state) for finding in findings] == [
        ("Kafka", "ok"),
        ("topics", "failed"),
    ]
    assert f"grant Read, and Write for `orchestrator publish`, on '{topic_prefix}tasks'" in (
        findings[1].says
    )
