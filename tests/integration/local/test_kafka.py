import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from orchestrator.local.errors import LocalServerError
from orchestrator.local.kafka import LocalKafka
from orchestrator.local.kafka_jars import default_cache, read_lock
from tests.fixtures.servers import KafkaServer


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def server(server_folder: Path) -> AsyncIterator[LocalKafka]:
    server = LocalKafka(server_folder / "broken-kafka")
    await server.start()
    yield server
    await server.stop()


async def create_topic(bootstrap_servers: str, name: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    settings = {"max.message.bytes": str(8 * 1024 * 1024)}
    await admin.create_topics([NewTopic(name, 1, 1, topic_configs=settings)])
    await admin.close()


async def write(bootstrap_servers: str, topic: str, value: bytes, **security: str) -> None:
    async with AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers,
        acks="all",
        max_request_size=8 * 1024 * 1024,
        **security,
    ) as producer:
        await producer.send_and_wait(topic, value)


async def read(bootstrap_servers: str, topic: str, count: int) -> list[bytes]:
    async with AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest"
    ) as consumer:
        consumer.assign([TopicPartition(topic, 0)])
        async with asyncio.timeout(20):
            return [(await anext(consumer)).value for _ in range(count)]


async def test_a_restart_keeps_the_messages_and_the_port(server: LocalKafka) -> None:
    address = server.bootstrap_servers
    await create_topic(address, "restarted")
    await write(address, "restarted", b"before")

    await server.restart()

    assert server.bootstrap_servers == address
    assert await read(address, "restarted", 1) == [b"before"]


async def test_after_a_kill_it_has_what_it_acknowledged_and_takes_writes(
    server: LocalKafka,
) -> None:
    address = server.bootstrap_servers
    await create_topic(address, "killed")
    await write(address, "killed", b"before")

    await server.kill()
    assert not server.running
    await server.start()
    await write(address, "killed", b"after")

    assert await read(address, "killed", 2) == [b"before", b"after"]


async def test_a_frozen_broker_answers_nobody_and_goes_on_after_the_thaw(
    server: LocalKafka,
) -> None:
    address = server.bootstrap_servers
    await create_topic(address, "frozen")
    async with AIOKafkaProducer(bootstrap_servers=address) as producer:
        await producer.send_and_wait("frozen", b"before")
        server.freeze()
        sent = await producer.send("frozen", b"meanwhile")
        assert await asyncio.wait([sent], timeout=0.5) == (set(), {sent})

        server.thaw()

        await asyncio.wait_for(sent, 20)


async def test_a_message_of_six_megabytes_is_taken(server: LocalKafka) -> None:
    await create_topic(server.bootstrap_servers, "large")

    await write(server.bootstrap_servers, "large", bytes(6 * 1024 * 1024))

    (value,) = await read(server.bootstrap_servers, "large", 1)
    assert len(value) == 6 * 1024 * 1024


async def test_a_setting_that_it_refuses_is_in_the_error(server_folder: Path) -> None:
    server = LocalKafka(
        server_folder / "refusing-kafka", extra_properties={"num.io.threads": "many"}
    )

    with pytest.raises(LocalServerError, match=r"num\.io\.threads"):
        await server.start()
    assert not server.running


async def test_a_changed_jar_is_refused_by_name(server_folder: Path, kafka: KafkaServer) -> None:
    cache, lock = server_folder / "jars", read_lock()
    cache.mkdir()
    for jar in lock.jars:
        (cache / jar.file_name).symlink_to(default_cache(lock) / jar.file_name)
    changed = cache / lock.jars[3].file_name
    changed.unlink()
    changed.write_bytes(b"not that jar")

    with pytest.raises(LocalServerError, match=changed.name):
        await LocalKafka(server_folder / "never", cache=cache).start()


async def test_clients_can_be_asked_for_a_password(server_folder: Path) -> None:
    login = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    server = LocalKafka(
        server_folder / "sasl-kafka",
        extra_properties={
            "listener.security.protocol.map": (
                "CLIENT:SASL_PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT"
            ),
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.client.plain.sasl.jaas.config": f'{login} user_me="secret";',
        },
    )
    await server.start()
    admin = AIOKafkaAdminClient(
        bootstrap_servers=server.bootstrap_servers,
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="PLAIN",
        sasl_plain_username="me",
        sasl_plain_password="secret",
    )

    await admin.start()

    assert await admin.list_topics() == []
    await admin.close()
    await server.stop()
