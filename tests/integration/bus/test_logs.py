"""Kafka's logs are trimmed, lost, made anew and compressed: nothing is passed over unnoticed."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from orchestrator.bus import session, topic_ids
from orchestrator.bus.options import BusOptions
from orchestrator.bus.topics import admin, cluster_id, create_topics
from orchestrator.local.kafka import LocalKafka
from orchestrator.store import positions
from orchestrator.store.database import Database
from tests.fakes.bus import bus_options, running_consumer, until
from tests.integration.bus.rows import count, has_tasks, one, publish_tasks

LETTERS = "outbox WHERE topic IS NOT NULL"


def ids(prefix: str, number: int) -> list[str]:
    return [f"{prefix}{n}" for n in range(number)]


async def make_anew(options: BusOptions) -> None:
    """The topic of tasks, under the same name."""
    topic = options.topics.tasks
    async with admin(options) as client:
        await client.delete_topics([topic])

        async def is_gone() -> bool:
            return topic not in await client.list_topics()

        await until(is_gone, what=f"the end of {topic}")
    await create_topics(options, (topic,))


async def read_and_stop(database: Database, options: BusOptions, tasks: list[str]) -> None:
    """A consumer's whole life: what was published before is read."""
    await publish_tasks(options, tasks)
    async with running_consumer(database, options):
        await until(lambda: has_tasks(database, len(tasks)))


async def test_a_topic_made_anew_that_is_longer_than_the_position_is_a_gap(
    database: Database, options: BusOptions
) -> None:
    await read_and_stop(database, options, ids("old", 30))
    await make_anew(options)
    await publish_tasks(options, ids("new", 300))
    async with running_consumer(database, options) as consumer:
        await until(lambda: len(consumer.state.problems) == options.partitions)
        assert "made anew" in consumer.state.problems[0]
    assert await count(database, "tasks") == 30
    assert await count(database, LETTERS) == options.partitions


async def test_a_topic_made_anew_is_read_from_its_start_where_the_policy_says_so(
    database: Database, options: BusOptions
) -> None:
    options = replace(options, on_gap="continue")
    await read_and_stop(database, options, ids("old", 30))
    await make_anew(options)
    await publish_tasks(options, ids("new", 300))
    async with running_consumer(database, options):
        await until(lambda: has_tasks(database, 330))
    async with running_consumer(database, options) as again:
        await until(lambda: again.state.is_ready)
    assert await count(database, "tasks") == 330
    assert await count(database, LETTERS) == options.partitions


async def test_a_topic_made_anew_under_a_consumer_is_noticed(
    database: Database, options: BusOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topic_ids, "INTERVAL_SECONDS", 0.2)
    await publish_tasks(options, ids("old", 30))
    async with running_consumer(database, options) as consumer:
        await until(lambda: has_tasks(database, 30))
        await make_anew(options)
        await until(lambda: any("made anew" in p for p in consumer.state.problems), seconds=60)
    assert await count(database, "tasks") == 30


async def test_a_topic_that_is_deleted_under_a_consumer_is_made_again_and_read(
    database: Database, options: BusOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topic_ids, "INTERVAL_SECONDS", 0.2)
    async with running_consumer(database, replace(options, on_gap="continue")) as consumer:
        await publish_tasks(options, ids("old", 30))
        await until(lambda: has_tasks(database, 30))
        async with admin(options) as client:
            await client.delete_topics([options.topics.tasks])
        await until(lambda: len(consumer.state.partitions) == 2 * options.partitions, seconds=60)
        await until(lambda: consumer.state.is_ready and not consumer.state.problems, seconds=60)
        await publish_tasks(options, ids("new", 30))
        await until(lambda: has_tasks(database, 60), seconds=60)


async def test_a_person_who_moves_the_position_accepts_the_topic_that_was_made_anew(
    database: Database, options: BusOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "GAP_RECHECK_SECONDS", 0.2)
    await read_and_stop(database, options, ids("old", 30))
    await make_anew(options)
    await publish_tasks(options, ids("new", 30))
    cluster = await cluster_id(options)
    async with running_consumer(database, options) as consumer:
        await until(lambda: len(consumer.state.problems) == options.partitions)
        places = [(options.topics.tasks, p) for p in range(options.partitions)]
        for place, position in (await positions.read(database, cluster, places)).items():
            expected = position.next_offset
            assert await positions.move(database, cluster, place, expected=expected, to=0)
        await until(lambda: has_tasks(database, 60))
        await until(lambda: consumer.state.is_ready)


async def test_positions_of_an_earlier_release_learn_their_topics_id(
    database: Database, options: BusOptions
) -> None:
    await read_and_stop(database, options, ids("old", 30))
    await database.fetch("UPDATE kafka_positions SET topic_id = NULL")
    async with running_consumer(database, options) as consumer:
        await until(lambda: consumer.state.is_ready)
    assert await count(database, "kafka_positions WHERE topic_id IS NULL") == 0


@pytest.mark.parametrize("compression", ["gzip", "snappy", "lz4", "zstd"])
async def test_compressed_messages_are_all_read(
    database: Database, options: BusOptions, compression: str
) -> None:
    await publish_tasks(options, ids("t", 500), compression=compression)
    async with running_consumer(database, options):
        await until(lambda: has_tasks(database, 500))
    assert await count(database, LETTERS) == 0


@pytest_asyncio.fixture(loop_scope="session")
async def own_kafka(server_folder: Path) -> AsyncIterator[LocalKafka]:
    """A broker whose disk may be taken away."""
    server = LocalKafka(server_folder / "lost-kafka")
    await server.start()
    yield server
    await server.stop()
    await asyncio.to_thread(shutil.rmtree, server_folder / "lost-kafka")


async def test_a_partition_whose_log_was_lost_stands_still_and_says_so(
    database: Database, own_kafka: LocalKafka, server_folder: Path
) -> None:
    options = bus_options(own_kafka.bootstrap_servers, "lost-")
    await create_topics(options, options.topics.all)
    await read_and_stop(database, options, ids("t", 30))
    await own_kafka.kill()
    for log in (server_folder / "lost-kafka" / "logs").glob(f"{options.topics.tasks}-*"):
        await asyncio.to_thread(shutil.rmtree, log)
    await own_kafka.start()
    async with running_consumer(database, options) as consumer:
        await until(lambda: len(consumer.state.problems) == options.partitions)
        assert "Kafka lost messages" in consumer.state.problems[0]
    assert await count(database, LETTERS) == options.partitions


async def test_a_broker_that_comes_back_with_an_empty_disk_is_read_from_its_start(
    database: Database,
    own_kafka: LocalKafka,
    server_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = bus_options(own_kafka.bootstrap_servers, "lost-")
    await create_topics(options, options.topics.all)
    await publish_tasks(options, ids("old", 30))
    async with running_consumer(database, options) as consumer:
        await until(lambda: has_tasks(database, 30))
        monkeypatch.setattr(topic_ids, "INTERVAL_SECONDS", 0.2)
        await own_kafka.kill()
        (server_folder / "lost-kafka" / "formatted").unlink()
        await own_kafka.start()
        await until(lambda: consumer.state.is_ready, seconds=60)
        await publish_tasks(options, ids("new", 30))
        await until(lambda: has_tasks(database, 60), seconds=60)
    row = await one(database, "SELECT count(DISTINCT cluster_id) AS n FROM kafka_positions")
    assert row["n"] == 2
