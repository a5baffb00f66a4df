"""Topics are made on demand, and a login that is refused says which setting to look at."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import pytest_asyncio
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import InvalidReplicationFactorError
from aiokafka.protocol.admin import CreateTopicsResponse_v1

from orchestrator.bus import topics
from orchestrator.bus.connection import check
from orchestrator.bus.options import BusOptions, Security, Topics
from orchestrator.bus.producer import ProducerLife, Publisher
from orchestrator.bus.topics import (
    _create,
    cluster_id,
    create_topics,
    ensure_topics,
    missing_topics,
)
from orchestrator.domain.errors import InvalidSettings, KafkaUnavailable
from orchestrator.local.kafka import LocalKafka
from orchestrator.local.kafka_probe import serves
from tests.fakes.bus import bus_options, until
from tests.fixtures.servers import KafkaServer

JAAS = (
    "org.apache.kafka.common.security.plain.PlainLoginModule required "
    'user_alice="secret" username="alice" password="secret";'
)


async def test_what_is_missing_is_created_once(kafka: KafkaServer, topic_prefix: str) -> None:
    options = bus_options(kafka.bootstrap_servers, topic_prefix)
    assert await missing_topics(options) == options.topics.all
    assert await ensure_topics(options) == options.topics.all
    assert await ensure_topics(options) == ()


async def test_missing_topics_are_named_where_they_may_not_be_created(
    kafka: KafkaServer, topic_prefix: str
) -> None:
    options = replace(bus_options(kafka.bootstrap_servers, topic_prefix), create_topics=False)
    with pytest.raises(InvalidSettings, match="CREATE_TOPICS=true"):
        await ensure_topics(options)


async def test_a_topics_name_that_kafka_refuses_is_told(kafka: KafkaServer) -> None:
    options = BusOptions(
        bootstrap_servers=kafka.bootstrap_servers, topics=Topics(tasks="no spaces please")
    )
    with pytest.raises(InvalidSettings, match=r"TOPIC_….*no spaces please.*another name"):
        await ensure_topics(options)


async def test_a_topic_whose_name_kafka_takes_for_that_of_another_one_is_told(
    kafka: KafkaServer, topic_prefix: str
) -> None:
    options = bus_options(kafka.bootstrap_servers, topic_prefix)
    await create_topics(options, (f"{topic_prefix}a.b",))
    with pytest.raises(InvalidSettings, match=r"a_b.*collides with existing topic"):
        await create_topics(options, (f"{topic_prefix}a_b",))


NO_CONTROLLER = AttributeError("'NoneType' object has no attribute 'nodeId'", name="nodeId")
REFUSED = InvalidReplicationFactorError.errno
FENCED = (REFUSED, "Unable to replicate the partition 1 time(s): All brokers are currently fenced.")
TOO_FEW = (REFUSED, "The target replication factor of 3 cannot be reached")


class Returning:
    """An admin client of brokers that just came back: this is what they answer first."""

    def __init__(self, *answers: Exception | tuple[int, str]) -> None:
        self.left = [*answers, (0, "")]

    async def create_topics(self, topics: list[NewTopic]) -> CreateTopicsResponse_v1:
        answer = self.left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return CreateTopicsResponse_v1(topic_errors=[(topic.name, *answer) for topic in topics])


async def create_at(client: Returning) -> None:
    await _create(cast(AIOKafkaAdminClient, client), [NewTopic("t", 1, 1)])


async def test_topics_are_created_when_brokers_that_came_back_take_them() -> None:
    client = Returning(NO_CONTROLLER, FENCED, FENCED)
    await create_at(client)
    assert not client.left


async def test_too_few_brokers_for_the_replicas_are_told_at_once() -> None:
    with pytest.raises(InvalidReplicationFactorError, match=r"topic 't': .* of 3"):
        await create_at(Returning(TOO_FEW))


async def test_a_broker_that_its_cluster_gave_up_is_waited_for(
    server_folder: Path, topic_prefix: str
) -> None:
    """As after a standstill of its machine. This one counts for one second of three."""
    drowsy = {"broker.session.timeout.ms": "1000", "broker.heartbeat.interval.ms": "3000"}
    kafka = LocalKafka(server_folder / "drowsy-kafka", extra_properties=drowsy)
    await kafka.start()
    host, port = kafka.bootstrap_servers.split(":")

    async def is_given_up() -> bool:
        return not await serves(host, int(port))

    try:
        await until(is_given_up)
        options = bus_options(kafka.bootstrap_servers, topic_prefix)
        assert await ensure_topics(options) == options.topics.all
    finally:
        await kafka.stop()


async def test_topics_without_leaders_are_named(
    kafka: KafkaServer, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def has_none(*_: object) -> bool:
        return False

    monkeypatch.setattr(topics, "VISIBLE_SECONDS", 1.0)
    monkeypatch.setattr(topics, "_have_leaders", has_none)
    options = bus_options(kafka.bootstrap_servers, topic_prefix)
    with pytest.raises(KafkaUnavailable, match=f"'{topic_prefix}tasks', .* with leaders, within 1"):
        await ensure_topics(options)


async def test_the_clusters_id_stays(options: BusOptions) -> None:
    assert await cluster_id(options) == await cluster_id(options)


async def test_an_absent_broker_is_named() -> None:
    with pytest.raises(KafkaUnavailable, match=r"127\.0\.0\.1:9"):
        await check(BusOptions(bootstrap_servers="127.0.0.1:9"))


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def guarded(server_folder: Path) -> AsyncIterator[LocalKafka]:
    """A broker that wants a password."""
    server = LocalKafka(
        server_folder / "guarded-kafka",
        extra_properties={
            "listener.security.protocol.map": (
                "CLIENT:SASL_PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT"
            ),
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.client.plain.sasl.jaas.config": JAAS,
        },
    )
    await server.start()
    yield server
    await server.stop()


def login(server: LocalKafka, **security: str) -> BusOptions:
    words = {"security_protocol": "SASL_PLAINTEXT", "sasl_username": "alice"} | security
    return replace(
        bus_options(server.bootstrap_servers, "guarded-"),
        security=Security(**words),  # type: ignore[arg-type]
    )


async def test_a_right_password_lets_us_in(guarded: LocalKafka) -> None:
    options = login(guarded, sasl_password="secret")
    await ensure_topics(options)
    async with Publisher(options) as publisher:
        assert await publisher.publish(options.topics.tasks, key=b"k", value=b"{}")


async def test_a_wrong_password_names_the_variables(guarded: LocalKafka) -> None:
    with pytest.raises(InvalidSettings, match="SASL_PASSWORD") as caught:
        await ensure_topics(login(guarded, sasl_password="wrong"))
    assert "wrong" not in str(caught.value)


async def test_a_wrong_mechanism_names_its_variable(guarded: LocalKafka) -> None:
    options = login(guarded, sasl_password="secret", sasl_mechanism="SCRAM-SHA-256")
    with pytest.raises(InvalidSettings, match="SASL_MECHANISM"):
        await ensure_topics(options)


async def test_a_publisher_with_a_wrong_password_says_so(guarded: LocalKafka) -> None:
    with pytest.raises(InvalidSettings, match="SASL_PASSWORD"):
        async with Publisher(login(guarded, sasl_password="wrong")):
            pass


async def test_a_producer_that_sent_nothing_ends_as_any_other(options: BusOptions) -> None:
    async def open_and_close() -> None:
        life = ProducerLife(options)
        await life.current()
        await life.close()

    # A task of its own: what the bug ended was whoever closed it.
    closing = asyncio.create_task(open_and_close())
    await asyncio.wait([closing])
    assert not closing.cancelled()
