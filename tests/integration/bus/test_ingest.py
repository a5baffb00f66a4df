"""Messages in Kafka become rows in PostgreSQL, once, whatever happens in between."""

import json
import time

from chaos.malformed import MALFORMED, Malformed
from orchestrator.bus.options import BusOptions
from orchestrator.bus.producer import Publisher
from orchestrator.bus.topics import cluster_id
from orchestrator.store.database import Database
from tests.fakes.bus import CountingEngine, running_consumer, until
from tests.integration.bus.rows import (
    all_positions,
    committed,
    count,
    has_tasks,
    one,
    publish_tasks,
    read_topic,
    task_value,
)


async def test_a_task_message_becomes_a_task(
    database: Database, options: BusOptions, publisher: Publisher
) -> None:
    value = {"task_description": "create a user", "required_fields": ["a"], "tenant": "acme"}
    async with running_consumer(database, options):
        await publisher.publish(options.topics.tasks, key=None, value=json.dumps(value).encode())
        await until(lambda: has_tasks(database, 1))
    task = await one(database, "SELECT * FROM tasks")
    assert task["description"] == "create a user"
    assert task["context"]["required_fields"] == ["a"]
    assert (task["tenant"], task["status"], task["seq"]) == ("acme", "ready", 1)


async def test_there_is_room_so_the_task_is_claimed_at_once(
    database: Database, options: BusOptions
) -> None:
    engine = CountingEngine(room=1)
    async with running_consumer(database, options, engine):
        await publish_tasks(options, ["a", "b"])
        await until(lambda: has_tasks(database, 2))
    assert max(len(i.claimed) for i in engine.ingested) == 1
    ours = await database.fetch("SELECT id FROM tasks WHERE status = 'running' AND owner = 1")
    assert {row["id"] for row in ours} == {c.key for i in engine.ingested for c in i.claimed}


async def test_messages_are_ingested_exactly_once_across_restarts(
    database: Database, options: BusOptions
) -> None:
    for round_ in range(3):
        expected = (round_ + 1) * 200
        async with running_consumer(database, options):
            await publish_tasks(options, [f"t{round_}-{n}" for n in range(200)])
            await until(lambda expected=expected: has_tasks(database, expected))
    assert await count(database, "tasks") == 600
    assert await count(database, "inbox") == 600
    assert await count(database, "steps") == 600


async def test_an_event_before_its_task_waits_for_it(
    database: Database, options: BusOptions, publisher: Publisher
) -> None:
    early = json.dumps({"task_id": "late", "event_data": {"a": 1}}).encode()
    async with running_consumer(database, options):
        await publisher.publish(options.topics.events, key=b"late", value=early)
        await until(lambda: has_tasks(database, 1))
        assert (await one(database, "SELECT status FROM tasks"))["status"] == "expected"
        await publisher.publish(options.topics.tasks, key=b"late", value=task_value("late"))

        async def is_ready() -> bool:
            return bool((await one(database, "SELECT status FROM tasks"))["status"] == "ready")

        await until(is_ready)
    assert await count(database, "inbox") == 2


async def publish_malformed(publisher: Publisher, options: BusOptions, bad: Malformed) -> None:
    topic = options.topics.events if bad.topic == "events" else options.topics.tasks
    await publisher.publish(topic, key=b"k", value=bad.value, headers=bad.headers)


async def test_malformed_messages_never_stop_a_partition_and_keep_their_bytes(
    database: Database, options: BusOptions, publisher: Publisher
) -> None:
    async with running_consumer(database, options):
        for number, bad in enumerate(MALFORMED):
            await publish_malformed(publisher, options, bad)
            good = task_value(f"good-{number}")
            await publisher.publish(options.topics.tasks, key=b"k", value=good)
        await until(lambda: has_tasks(database, len(MALFORMED)))
    rows = await database.fetch("SELECT key, value, headers FROM outbox WHERE topic IS NOT NULL")
    assert await count(database, "tasks") == len(MALFORMED)
    assert len(rows) == len(MALFORMED)
    letters = sorted((dict(r["headers"])["dlq.reason"], r["value"] or b"") for r in rows)
    limit = options.max_publish_bytes  # more, Kafka does not take
    assert letters == sorted((m.reason, (m.value or b"")[:limit]) for m in MALFORMED)


async def test_a_position_that_was_set_back_is_read_from_again_without_double_tasks(
    database: Database, options: BusOptions
) -> None:
    async with running_consumer(database, options):
        await publish_tasks(options, [f"t{n}" for n in range(100)])
        await until(lambda: has_tasks(database, 100))
    await database.fetch("UPDATE kafka_positions SET next_offset = 0")
    engine = CountingEngine()
    async with running_consumer(database, options, engine):
        await until(lambda: bool(engine.ingested))
        await publish_tasks(options, ["later"])
        await until(lambda: has_tasks(database, 101))
    assert await count(database, "tasks") == 101
    assert await count(database, "steps") == 101
    assert await count(database, "inbox") == 101


async def test_tasks_that_a_restore_lost_come_back(database: Database, options: BusOptions) -> None:
    async with running_consumer(database, options):
        await publish_tasks(options, [f"t{n}" for n in range(50)])
        await until(lambda: has_tasks(database, 50))
    # What a restore to an earlier moment does: rows and positions go back together.
    await database.fetch("DELETE FROM tasks")
    await database.fetch("UPDATE kafka_positions SET next_offset = 0")
    async with running_consumer(database, options):
        await until(lambda: has_tasks(database, 50))


async def test_who_lost_a_partition_writes_nothing_and_reads_on_from_the_new_position(
    database: Database, options: BusOptions
) -> None:
    # One message a partition is the other owner's; the rest is here, each once.
    ours = 61 - options.partitions
    async with running_consumer(database, options) as consumer:
        await publish_tasks(options, ["first"])
        await until(lambda: has_tasks(database, 1))
        # Another owner has been here: the consumer's own idea of the positions is out of date.
        await database.fetch("UPDATE kafka_positions SET next_offset = next_offset + 1")
        await publish_tasks(options, [f"t{n}" for n in range(60)])
        await until(lambda: has_tasks(database, ours))
        await until(lambda: consumer.state.is_ready)
    assert await count(database, "tasks") == ours
    assert await count(database, "steps") == ours


async def test_one_message_that_the_database_refuses_does_not_fail_the_others(
    database: Database, options: BusOptions
) -> None:
    await database.fetch("ALTER TABLE tasks ADD CONSTRAINT no_poison CHECK (task_id <> 't77')")
    async with running_consumer(database, options):
        await publish_tasks(options, [f"t{n}" for n in range(200)])
        await until(lambda: has_tasks(database, 199))

        async def has_letter() -> bool:
            return await count(database, "outbox WHERE topic IS NOT NULL") == 1

        await until(has_letter)
    letter = await one(database, "SELECT value, headers FROM outbox WHERE topic IS NOT NULL")
    assert json.loads(letter["value"])["task_id"] == "t77"
    assert dict(letter["headers"])["dlq.reason"] == "store_rejected"


async def test_positions_follow_the_messages_and_kafka_has_a_copy(
    database: Database, options: BusOptions
) -> None:
    cluster = await cluster_id(options)

    async def has_copy() -> bool:
        found = await all_positions(database, options, cluster)
        # Partitions without messages too: the copy's metadata names the service.
        return await committed(options) == found

    async with running_consumer(database, options):
        await publish_tasks(options, [f"t{n}" for n in range(30)])
        await until(lambda: has_tasks(database, 30))
        await until(has_copy, what="a copy while the consumer runs")
        await publish_tasks(options, [f"u{n}" for n in range(30)])
        await until(lambda: has_tasks(database, 60))
    # Nobody comes after the consumer's end who could bring the copy up to date.
    assert await has_copy()
    records = await read_topic(options, options.topics.tasks)
    found = await all_positions(database, options, cluster)
    for partition in range(options.partitions):
        inside = [r.offset for r in records if r.partition == partition]
        assert found[options.topics.tasks, partition] == (max(inside) + 1 if inside else 0)


async def test_back_pressure_stops_intake_and_lets_it_go_on(
    database: Database, options: BusOptions
) -> None:
    engine = CountingEngine(reject_more=True)
    async with running_consumer(database, options, engine) as consumer:
        await until(lambda: consumer.state.is_ready)
        await publish_tasks(options, ["a"])
        waited_until = time.monotonic() + 1
        await until(lambda: time.monotonic() > waited_until)
        assert await count(database, "tasks") == 0
        engine.reject_more = False
        await until(lambda: has_tasks(database, 1))


async def test_an_idle_consumer_takes_a_message_at_once(
    database: Database, options: BusOptions, publisher: Publisher
) -> None:
    async with running_consumer(database, options) as consumer:
        await until(lambda: consumer.state.is_ready)
        took = []
        for number in range(20):
            started = time.monotonic()
            value = task_value(f"t{number}")
            await publisher.publish(options.topics.tasks, key=b"k", value=value)
            await until(lambda number=number: has_tasks(database, number + 1))
            took.append(time.monotonic() - started)
    # Mostly Kafka's own way in and out; a poll that waits for its time-out would take 200 ms.
    assert sorted(took)[10] < 0.1
