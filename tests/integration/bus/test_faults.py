"""Servers that vanish, freeze and come back, and logs that have holes."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, RecordsToDelete

from chaos.proxy import LOOPBACK, running_proxy
from orchestrator.bus import consumer as consumer_module
from orchestrator.bus.group import Group
from orchestrator.bus.options import BusOptions
from orchestrator.bus.topic_ids import topic_ids
from orchestrator.bus.topics import cluster_id, create_topics, ensure_topics
from orchestrator.domain.errors import KafkaUnavailable
from orchestrator.local.kafka import LocalKafka
from orchestrator.store import positions
from orchestrator.store.database import Database
from orchestrator.store.positions import Position
from orchestrator.store.service import identity
from tests.fakes.bus import CountingEngine, bus_options, running_consumer, until
from tests.fixtures.servers import KafkaServer, PostgresServer
from tests.integration.bus.rows import (
    count,
    has_tasks,
    one,
    publish_tasks,
    task_value,
)


async def test_intake_goes_on_after_postgresql_was_killed(
    database: Database, options: BusOptions, postgres: PostgresServer
) -> None:
    async with running_consumer(database, options) as consumer:
        await publish_tasks(options, [f"a{n}" for n in range(300)])
        await until(lambda: has_tasks(database, 1))
        await postgres.kill()
        await publish_tasks(options, [f"b{n}" for n in range(300)])
        await until(lambda: any("PostgreSQL" in p for p in consumer.state.problems))
        await postgres.start()
        await until(lambda: has_tasks(database, 600))
        await until(lambda: consumer.state.is_ready)
    assert await count(database, "steps") == 600


async def test_intake_goes_on_after_postgresql_was_frozen(
    database: Database, options: BusOptions, postgres: PostgresServer
) -> None:
    async with running_consumer(database, options) as consumer:
        await publish_tasks(options, ["first"])
        await until(lambda: has_tasks(database, 1))
        postgres.freeze()
        await publish_tasks(options, [f"t{n}" for n in range(300)])
        await until(lambda: bool(consumer.state.problems))
        postgres.thaw()
        await until(lambda: has_tasks(database, 301))
    assert await count(database, "steps") == 301


async def test_stopping_while_postgresql_is_away_loses_nothing(
    database: Database, options: BusOptions, postgres: PostgresServer
) -> None:
    async with running_consumer(database, options) as consumer:
        await until(lambda: consumer.state.is_ready)
        await postgres.kill()
        await publish_tasks(options, [f"t{n}" for n in range(50)])
        await until(lambda: bool(consumer.state.problems))
    await postgres.start()
    async with running_consumer(database, options):
        await until(lambda: has_tasks(database, 50))


async def test_intake_goes_on_after_kafka_was_killed(
    database: Database, options: BusOptions, kafka: KafkaServer
) -> None:
    async with running_consumer(database, options):
        await publish_tasks(options, ["first"])
        await until(lambda: has_tasks(database, 1))
        await kafka.kill()
        await kafka.start()
        await publish_tasks(options, [f"t{n}" for n in range(100)])
        await until(lambda: has_tasks(database, 101), seconds=60)
    assert await count(database, "steps") == 101


async def test_a_consumer_whose_client_fetches_no_more_is_built_anew_at_once(
    database: Database, options: BusOptions
) -> None:
    """As under uvloop, where a connection that is reset just before a write ends the client's task.

    Left to the watch, it would take a minute.
    """
    async with running_consumer(database, options) as consumer:
        await publish_tasks(options, ["first"])
        await until(lambda: has_tasks(database, 1))
        assert consumer._session is not None
        fetcher = consumer._session._consumer._fetcher
        for task in (fetcher.error_future, *fetcher._pending_tasks):
            task.cancel()
        await publish_tasks(options, [f"t{n}" for n in range(20)])
        await until(lambda: has_tasks(database, 21), seconds=options.stalled_after_seconds / 3)


async def test_a_worker_that_starts_before_kafka_waits_for_it(
    database: Database, options: BusOptions, kafka: KafkaServer
) -> None:
    await publish_tasks(options, ["first"])
    await kafka.stop()
    async with running_consumer(database, options) as consumer:
        await until(lambda: bool(consumer.state.problems))
        await kafka.start()
        await until(lambda: has_tasks(database, 1), seconds=60)


async def test_two_consumers_share_the_partitions_and_one_takes_over(
    database: Database, options: BusOptions
) -> None:
    first, second = CountingEngine(), CountingEngine()
    async with running_consumer(database, options, first) as one_:
        await until(lambda: len(one_.state.partitions) == 6)
        async with running_consumer(database, options, second) as other:
            await until(lambda: len(one_.state.partitions) == len(other.state.partitions) == 3)
            await publish_tasks(options, [f"a{n}" for n in range(200)])
            await until(lambda: has_tasks(database, 200))
            assert first.ingested
            assert second.ingested
        await publish_tasks(options, [f"b{n}" for n in range(200)])
        await until(lambda: has_tasks(database, 400))
    assert await count(database, "steps") == 400


async def test_a_member_with_a_name_that_leaves_says_so(
    database: Database, options: BusOptions
) -> None:
    patient = replace(options, session_timeout_seconds=12, request_timeout_seconds=20)
    async with running_consumer(database, replace(patient, member="a")) as stays:
        async with running_consumer(database, replace(patient, member="b")):
            await until(lambda: len(stays.state.partitions) == 3)
        # Others hear of it with their next heartbeat, of which a session has three.
        await until(lambda: len(stays.state.partitions) == 6, seconds=7)


async def more_partitions(options: BusOptions, topic: str, count: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=options.bootstrap_servers)
    await admin.start()
    await admin.create_partitions({topic: NewPartitions(total_count=count)})
    await admin.close()


async def vanish(consumer: AIOKafkaConsumer) -> None:
    """Ends it as a crash does: without a word to the group."""
    coordinator = consumer._coordinator
    for task in (coordinator._coordination_task, coordinator._heartbeat_task):
        task.cancel()
    await consumer._client.close()
    consumer._closed = True  # else it complains when it is collected


async def test_a_leader_that_is_back_under_its_name_sees_new_partitions(
    database: Database, options: BusOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer_module, "METADATA_MS", 1_000)
    named = replace(options, member="a")
    group = Group(named, await identity(database), cluster_id="any")
    first = consumer_module.new_consumer(named, group)
    await first.start()
    first.subscribe(named.topics.inputs)
    await until(lambda: len(first.assignment()) == 6)
    await vanish(first)

    async with running_consumer(database, named) as back:
        await until(lambda: len(back.state.partitions) == 6, seconds=5)
        await more_partitions(options, options.topics.tasks, 5)
        await until(lambda: len(back.state.partitions) == 8, seconds=15)


async def trim(options: BusOptions, topic: str, before: int) -> None:
    """What retention does, at once and in every partition."""
    admin = AIOKafkaAdminClient(bootstrap_servers=options.bootstrap_servers)
    await admin.start()
    try:
        partitions = [TopicPartition(topic, p) for p in range(options.partitions)]
        await admin.delete_records({p: RecordsToDelete(before_offset=before) for p in partitions})
    finally:
        await admin.close()


async def publish_to_each_partition(options: BusOptions, count: int) -> None:
    async with AIOKafkaProducer(bootstrap_servers=options.bootstrap_servers) as producer:
        for number in range(count):
            for partition in range(options.partitions):
                await producer.send_and_wait(
                    options.topics.tasks,
                    value=task_value(f"p{partition}-{number}"),
                    partition=partition,
                )


async def begin_at_zero(database: Database, options: BusOptions) -> str:
    cluster = await cluster_id(options)
    places = {(options.topics.tasks, p): Position(0) for p in range(options.partitions)}
    await positions.begin(database, cluster, places)
    return cluster


async def test_a_partition_whose_messages_are_gone_stands_still_and_says_so(
    database: Database, options: BusOptions
) -> None:
    await begin_at_zero(database, options)
    await publish_to_each_partition(options, 5)
    await trim(options, options.topics.tasks, before=3)
    async with running_consumer(database, options) as consumer:
        await until(lambda: len(consumer.state.problems) == options.partitions)
        assert "messages 0 to 2" in consumer.state.problems[0]
        assert not consumer.state.is_ready
    assert await count(database, "tasks") == 0
    assert await count(database, "outbox WHERE topic IS NOT NULL") == options.partitions


async def test_a_person_who_moves_the_position_sets_a_partition_going(
    database: Database, options: BusOptions
) -> None:
    cluster = await begin_at_zero(database, options)
    await publish_to_each_partition(options, 5)
    await trim(options, options.topics.tasks, before=3)
    async with running_consumer(database, options) as consumer:
        await until(lambda: len(consumer.state.problems) == options.partitions)
        for partition in range(options.partitions):
            place = (options.topics.tasks, partition)
            assert await positions.move(database, cluster, place, expected=0, to=3)
        await until(lambda: has_tasks(database, 2 * options.partitions))
        await until(lambda: consumer.state.is_ready)


async def test_reading_goes_on_behind_a_gap_where_the_policy_says_so(
    database: Database, kafka: KafkaServer, topic_prefix: str
) -> None:
    options = replace(bus_options(kafka.bootstrap_servers, topic_prefix), on_gap="continue")
    await create_topics(options, options.topics.all)
    await begin_at_zero(database, options)
    await publish_to_each_partition(options, 5)
    await trim(options, options.topics.tasks, before=3)
    async with running_consumer(database, options) as consumer:
        await until(lambda: has_tasks(database, 2 * options.partitions))
        assert consumer.state.is_ready
    letter = await one(database, "SELECT headers FROM outbox WHERE topic IS NOT NULL LIMIT 1")
    assert dict(letter["headers"])["dlq.reason"] == "gap"


async def test_a_position_beyond_the_end_is_a_gap(database: Database, options: BusOptions) -> None:
    cluster = await cluster_id(options)
    await positions.begin(database, cluster, {(options.topics.tasks, 0): Position(1000)})
    async with running_consumer(database, options) as consumer:
        await until(lambda: any("made anew" in p for p in consumer.state.problems))
        assert not consumer.state.is_ready
    assert await count(database, "outbox WHERE topic IS NOT NULL") == 1


def damage_second_batch(log_file: Path) -> None:
    """Flips a byte in the last record of the second batch: its checksum no longer fits."""
    raw = bytearray(log_file.read_bytes())
    length = int.from_bytes(raw[8:12])
    second = 12 + length
    end = second + 12 + int.from_bytes(raw[second + 8 : second + 12])
    raw[end - 10] ^= 0xFF
    log_file.write_bytes(raw)


async def test_a_frozen_broker_only_delays(
    database: Database, options: BusOptions, kafka: KafkaServer
) -> None:
    async with running_consumer(database, options) as consumer:
        await until(lambda: consumer.state.is_ready)
        await publish_tasks(options, [f"t{n}" for n in range(100)])
        kafka.freeze()
        # Longer than the group's patience with a silent member.
        deadline = time.monotonic() + options.session_timeout_seconds + 2
        await until(lambda: time.monotonic() > deadline)
        kafka.thaw()
        await publish_tasks(options, ["last"])
        await until(lambda: has_tasks(database, 101), seconds=60)
    assert await count(database, "steps") == 101


async def test_a_batch_that_cannot_be_decoded_is_passed_and_nothing_else_is(
    database: Database, server_folder: Path
) -> None:
    kafka = LocalKafka(server_folder / "damaged-kafka")
    await kafka.start()
    try:
        options = bus_options(kafka.bootstrap_servers, "damaged-")
        await create_topics(options, options.topics.all)
        await publish_to_each_partition(options, 3)
        await kafka.stop()
        for partition in (0, 1):
            folder = server_folder / "damaged-kafka" / "logs" / f"damaged-tasks-{partition}"
            damage_second_batch(folder / "00000000000000000000.log")
        await kafka.start()
        async with running_consumer(database, options):
            await until(lambda: has_tasks(database, 7), seconds=60)

            async def has_letters() -> bool:
                return await count(database, "outbox WHERE topic IS NOT NULL") == 2

            await until(has_letters, seconds=60)
    finally:
        await kafka.stop()
    assert await count(database, "tasks") == 7


@pytest.mark.parametrize("way", ["frozen", "killed"])
async def test_stopping_ends_soon_while_kafka_is_away(
    database: Database, options: BusOptions, kafka: KafkaServer, way: str
) -> None:
    async with asyncio.timeout(25), running_consumer(database, options) as consumer:
        await until(lambda: consumer.state.is_ready)
        await publish_tasks(options, ["a"])
        await until(lambda: has_tasks(database, 1))
        if way == "frozen":
            kafka.freeze()
        else:
            await kafka.kill()


async def test_a_half_open_connection_is_asked_once_and_then_given_up(
    options: BusOptions, kafka: KafkaServer
) -> None:
    """Requests of ours end before the client's own would, which alone closes a connection."""
    if not isinstance(kafka, LocalKafka) or kafka.detour is None:
        pytest.skip("a Kafka that is not our own tells its clients its own address")
    at, target = kafka.detour
    await ensure_topics(options)
    async with running_proxy(LOOPBACK, target, at=at) as proxy:
        consumer = AIOKafkaConsumer(bootstrap_servers=proxy.address)
        await consumer.start()
        try:
            assert await topic_ids(consumer, options.topics.inputs)
            assert proxy.half_open() > 0
            with pytest.raises(KafkaUnavailable):
                await topic_ids(consumer, options.topics.inputs)

            assert await topic_ids(consumer, options.topics.inputs)
        finally:
            await consumer.stop()
