"""What other producers send becomes tasks and events as it comes, through a real Kafka."""

import asyncio
import json

import pytest
from aiokafka import AIOKafkaProducer
from confluent_kafka import Message, Producer

from orchestrator.bus.headers import headers_to_text
from orchestrator.bus.options import BusOptions
from orchestrator.bus.producer import Publisher
from orchestrator.store.database import Database
from tests.fakes.bus import running_consumer, until
from tests.integration.bus.rows import count, has_tasks, task_value
from tests.unit.bus.test_envelopes import AVRO, PRODUCERS

KEYS = [f"order-{number}".encode() for number in range(20)]


async def test_each_producers_message_becomes_a_task_without_a_change_at_the_producer(
    database: Database, options: BusOptions, publisher: Publisher
) -> None:
    async with running_consumer(database, options):
        for sent in PRODUCERS.values():
            await publisher.publish(
                options.topics.tasks, key=b"k", value=sent.value, headers=sent.headers
            )
        await until(lambda: has_tasks(database, len(PRODUCERS)))
    tasks = await database.fetch("SELECT description, context FROM tasks")
    assert {task["description"] for task in tasks} == {"Register ACME"}
    assert [task["context"]["event_data"] for task in tasks] == [{"n": 1}] * len(PRODUCERS)
    assert await count(database, "outbox WHERE topic IS NOT NULL") == 0


@pytest.mark.parametrize(
    "value",
    [AVRO, b'\x00\x00\x00\x00\x07{"task_description": ""}', b'{"payload": "{\\"a\\": 1}"}'],
    ids=["Avro", "framed", "Connect"],
)
async def test_the_dead_letter_of_an_envelope_has_the_bytes_as_they_came(
    database: Database, options: BusOptions, publisher: Publisher, value: bytes
) -> None:
    headers = (("__value_schema_id", b"\x01\xdd\x48"),)
    async with running_consumer(database, options):
        await publisher.publish(options.topics.tasks, key=b"k", value=value, headers=headers)
        await publisher.publish(options.topics.tasks, key=b"k", value=task_value("good"))
        await until(lambda: has_tasks(database, 1))
    (letter,) = await database.fetch(
        "SELECT key, value, headers FROM outbox WHERE topic IS NOT NULL"
    )
    assert (letter["key"], letter["value"]) == (b"k", value)
    ((name, kept),) = headers_to_text(headers)
    assert dict(letter["headers"])[f"dlq.original.header.{name}"] == kept


async def publish_with_librdkafka(options: BusOptions, topic: str) -> dict[bytes, int]:
    """An event for each key by a client whose partitioner is another; the partition of each."""
    partitions: dict[bytes, int] = {}

    def told(_: object, message: Message) -> None:
        partitions[message.key() or b""] = message.partition() or 0

    producer = Producer({"bootstrap.servers": options.bootstrap_servers})
    for key in KEYS:
        value = json.dumps({"task_id": key.decode(), "event_data": {"a": 1}}).encode()
        producer.produce(topic, key=key, value=value, on_delivery=told)
    await asyncio.to_thread(producer.flush, 30)
    return partitions


async def test_a_task_and_its_event_may_lie_in_partitions_of_different_numbers(
    database: Database, options: BusOptions
) -> None:
    async with AIOKafkaProducer(bootstrap_servers=options.bootstrap_servers) as producer:
        sent = [
            await producer.send_and_wait(options.topics.tasks, task_value(key.decode()), key=key)
            for key in KEYS
        ]
    events = await publish_with_librdkafka(options, options.topics.events)
    assert [record.partition for record in sent] != [events[key] for key in KEYS]

    async def are_all_in() -> bool:
        return await count(database, "inbox") == 2 * len(KEYS)

    async with running_consumer(database, options):
        await until(are_all_in)
    both = """SELECT t.task_id FROM tasks t JOIN inbox i ON i.task = t.id
              WHERE t.status = 'ready' GROUP BY t.id HAVING count(DISTINCT i.event_type) = 2"""
    assert {row["task_id"].encode() for row in await database.fetch(both)} == set(KEYS)
