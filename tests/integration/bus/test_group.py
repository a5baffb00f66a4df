"""A consumer group of one service: others are kept out, and what they took is seen."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer
from aiokafka import errors as kafka
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from confluent_kafka import Consumer as ConfluentConsumer

from orchestrator.bus.consumer import Consumer, new_consumer
from orchestrator.bus.group import Group
from orchestrator.bus.options import BusOptions
from orchestrator.bus.topics import ensure_topics
from orchestrator.domain.errors import InvalidSettings
from orchestrator.store import service, workers
from orchestrator.store.database import Database, DatabaseOptions
from tests.fakes.bus import CountingEngine, bus_options, running_consumer, until
from tests.fixtures.servers import KafkaServer, PostgresServer
from tests.integration.bus.rows import count, has_tasks, publish_tasks
from tests.integration.bus.test_faults import more_partitions, vanish

LEASE = timedelta(seconds=60)
REFUSED = r"refuses workers of this service as members of consumer group .*another database"


@pytest_asyncio.fixture(loop_scope="session")
async def options(kafka: KafkaServer, topic_prefix: str) -> BusOptions:
    options = replace(
        bus_options(kafka.bootstrap_servers, topic_prefix), session_timeout_seconds=2.0
    )
    await ensure_topics(options)
    return options


@pytest_asyncio.fixture(loop_scope="session")
async def copy(postgres: PostgresServer, database_template: str) -> AsyncIterator[Database]:
    """A copy of the service's database: all that it knows is the same."""
    name = f"test_{uuid.uuid4().hex}"
    url = await postgres.create_database(name, template=database_template)
    database = Database(DatabaseOptions(url=url, pool_size=2))
    await database.open()
    yield database
    await database.close()
    await postgres.drop_database(name)


async def worker(database: Database, name: str = "w") -> CountingEngine:
    return CountingEngine(worker=await workers.register(database, name))


async def joined(database: Database, options: BusOptions) -> None:
    """Runs a worker's consumer until it gives up."""
    engine = (await worker(database)).as_engine()
    async with asyncio.timeout(60):
        await Consumer(database, options, engine=engine).run()


@asynccontextmanager
async def stranger(
    options: BusOptions,
    *topics: str,
    assignor: type = RoundRobinPartitionAssignor,
    **more: object,
) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer of another program in the same group."""
    consumer = AIOKafkaConsumer(
        *(topics or options.topics.inputs),
        bootstrap_servers=options.bootstrap_servers,
        group_id=options.group_id,
        client_id="stranger",
        heartbeat_interval_ms=500,
        partition_assignment_strategy=(assignor,),
        **{"session_timeout_ms": 2000, **more},
    )
    try:
        await consumer.start()
        yield consumer
    finally:
        await consumer.stop()


async def test_a_worker_on_a_copy_of_the_database_is_refused_and_takes_nothing(
    database: Database, copy: Database, options: BusOptions
) -> None:
    async with running_consumer(database, options, await worker(database)) as ours:
        await until(lambda: len(ours.state.partitions) == 6)
        await publish_tasks(options, [f"t{n}" for n in range(60)])
        with pytest.raises(InvalidSettings, match=REFUSED):
            await joined(copy, options)
        assert len(ours.state.partitions) == 6
        await publish_tasks(options, [f"u{n}" for n in range(60)])
        await until(lambda: has_tasks(database, 120), seconds=5)
    assert await count(copy, "tasks") == 0


async def test_a_group_of_another_service_is_refused_while_nobody_is_in_it(
    database: Database, copy: Database, options: BusOptions
) -> None:
    async with running_consumer(database, options, await worker(database)) as ours:
        await until(lambda: ours.state.is_ready)
    await copy.fetch("UPDATE service SET id = gen_random_uuid()")

    with pytest.raises(InvalidSettings, match=r"belongs to service .*kafka-consumer-groups"):
        await joined(copy, options)


async def test_a_restored_copy_goes_on_where_nobody_else_is(
    database: Database, copy: Database, options: BusOptions
) -> None:
    async with running_consumer(database, options, await worker(database)) as ours:
        await until(lambda: ours.state.is_ready)
    async with running_consumer(copy, options, await worker(copy)) as theirs:
        await until(lambda: theirs.state.is_ready)


@pytest.mark.parametrize("assignor", [RoundRobinPartitionAssignor, RangePartitionAssignor])
async def test_a_stranger_that_comes_later_is_refused_by_kafka(
    database: Database, options: BusOptions, assignor: type
) -> None:
    async with running_consumer(database, options, await worker(database)) as ours:
        await until(lambda: len(ours.state.partitions) == 6)
        with pytest.raises(kafka.InconsistentGroupProtocolError):
            async with stranger(options, assignor=assignor):
                pass
        assert len(ours.state.partitions) == 6


@pytest.mark.parametrize("assignor", [RoundRobinPartitionAssignor, RangePartitionAssignor])
async def test_a_stranger_that_was_there_first_is_named(
    database: Database, options: BusOptions, assignor: type
) -> None:
    async with stranger(options, assignor=assignor) as consumer:
        await until(lambda: len(consumer.assignment()) == 6)
        with pytest.raises(InvalidSettings, match=r"\(stranger at /127.0.0.1\)"):
            await joined(database, options)
        assert len(consumer.assignment()) == 6


@asynccontextmanager
async def modern_stranger(options: BusOptions) -> AsyncIterator[None]:
    """Of the new protocol, for which Kafka shares out the partitions itself: none of ours asked."""
    consumer = ConfluentConsumer(
        {
            "bootstrap.servers": options.bootstrap_servers,
            "group.id": options.group_id,
            "group.protocol": "consumer",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe(list(options.topics.inputs))
    stopping = asyncio.Event()

    async def poll() -> None:
        while not stopping.is_set():
            await asyncio.to_thread(consumer.poll, 0.1)

    polling = asyncio.create_task(poll(), name="stranger")
    try:
        await until(lambda: bool(consumer.assignment()))
        yield
    finally:
        stopping.set()
        await polling
        await asyncio.to_thread(consumer.close)


async def test_what_a_stranger_of_the_new_protocol_takes_is_seen_and_read_when_it_leaves(
    database: Database, options: BusOptions
) -> None:
    async with running_consumer(database, options, await worker(database)) as ours:
        await until(lambda: len(ours.state.partitions) == 6)
        async with modern_stranger(options):
            await until(lambda: any("no worker" in p for p in ours.state.problems), seconds=60)
            assert len(ours.state.partitions) == 3
            assert await service.unread(database, lease=LEASE, quiet=timedelta(0))
            await publish_tasks(options, [f"t{n}" for n in range(60)])
        await until(lambda: has_tasks(database, 60), seconds=20)
        await until(lambda: ours.state.is_ready, seconds=20)
    assert not await service.unread(database, lease=LEASE, quiet=timedelta(0))


def is_strict(consumer: Consumer) -> bool:
    session = consumer._session
    return session is not None and len(session.readers._group.assignors) == 1


async def test_workers_of_the_release_before_keep_their_part_until_they_end(
    database: Database, options: BusOptions
) -> None:
    await database.fetch("INSERT INTO workers (name) VALUES ('old')")
    async with stranger(options) as old:
        await until(lambda: len(old.assignment()) == 6)
        async with running_consumer(database, options, await worker(database)) as new:
            await until(lambda: len(new.state.partitions) == len(old.assignment()) == 3)
            assert new.state.is_ready
            await old.stop()
            await database.fetch("DELETE FROM workers WHERE name = 'old'")
            await until(lambda: len(new.state.partitions) == 6)
            await until(lambda: is_strict(new))
            with pytest.raises(kafka.InconsistentGroupProtocolError):
                async with stranger(options):
                    pass


async def test_a_worker_of_the_release_before_may_come_back(
    database: Database, options: BusOptions
) -> None:
    async with running_consumer(database, options, await worker(database)) as new:
        await until(lambda: len(new.state.partitions) == 6)
        await database.fetch("INSERT INTO workers (name) VALUES ('old')")

        async def is_let_in() -> bool:
            try:
                async with stranger(options) as old:
                    await until(lambda: len(old.assignment()) == 3)
            except kafka.InconsistentGroupProtocolError:
                return False
            return True

        await until(is_let_in)
        await until(lambda: len(new.state.partitions) == 6)


async def test_a_member_that_is_back_with_one_topic_more_reads_it(
    database: Database, options: BusOptions
) -> None:
    """Kafka gives a member under its name what it had, whatever it subscribes to by now."""
    named: dict[str, Any] = {"group_instance_id": "w", "session_timeout_ms": 4000}
    async with stranger(options, options.topics.tasks, **named) as before:
        await until(lambda: len(before.assignment()) == 3)
        await vanish(before)
    engine = await worker(database)
    async with running_consumer(database, replace(options, member="w"), engine) as ours:
        await until(lambda: len(ours.state.partitions) == 6, seconds=15)
        assert ours.state.is_ready


async def test_a_member_that_is_back_reads_the_partitions_that_a_topic_got_meanwhile(
    database: Database, options: BusOptions
) -> None:
    named = replace(options, member="w")
    group = Group(named, await service.identity(database), cluster_id="any")
    first = new_consumer(named, group)
    await first.start()
    first.subscribe(named.topics.inputs)
    await until(lambda: len(first.assignment()) == 6)
    await vanish(first)
    await more_partitions(options, options.topics.tasks, 5)
    async with running_consumer(database, named, await worker(database)) as ours:
        await until(lambda: len(ours.state.partitions) == 8, seconds=20)


async def test_workers_of_one_database_in_two_groups_are_told(
    database: Database, options: BusOptions
) -> None:
    apart = replace(options, group_id=f"{options.group_id}-2")
    async with (
        running_consumer(database, options, await worker(database, "one")) as one,
        running_consumer(database, apart, await worker(database, "two")) as two,
    ):
        for consumer, other in ((one, apart), (two, options)):
            words = f"another worker of this database reads in group '{other.group_id}'"
            await until(lambda c=consumer, w=words: any(w in p for p in c.state.problems))
        assert len(await service.places(database, lease=LEASE)) == 2
