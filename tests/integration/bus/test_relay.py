"""Rows of the outbox reach Kafka: all, in order, from one process at a time."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from aiokafka.structs import ConsumerRecord

from orchestrator.bus.options import BusOptions
from orchestrator.bus.relay import Identity, Relay
from orchestrator.domain.ids import WorkerId
from orchestrator.store import workers
from orchestrator.store.database import Database
from tests.fakes.bus import until
from tests.fixtures.servers import KafkaServer, PostgresServer
from tests.integration.bus.rows import add_steps, count, ids_in_order, read_topic


class Life:
    """A worker whose heartbeat a test may stop."""

    def __init__(self, worker: WorkerId) -> None:
        self.worker = worker
        self.is_alive = True

    def identity(self) -> Identity:
        return Identity(worker=lambda: self.worker, is_alive=lambda: self.is_alive)


@asynccontextmanager
async def running_relay(
    database: Database, options: BusOptions, life: Life
) -> AsyncIterator[Relay]:
    relay = Relay(database, options, identity=life.identity())
    task = asyncio.create_task(relay.run(), name="relay")
    try:
        yield relay
    finally:
        relay.stop()
        await task


async def published(options: BusOptions) -> Sequence[ConsumerRecord]:
    return await read_topic(options, options.topics.task_updates)


async def is_empty(database: Database) -> bool:
    return await count(database, "outbox") == 0


async def new_life(database: Database, name: str = "w") -> Life:
    return Life(await workers.register(database, name))


async def test_updates_of_a_task_are_published_in_the_order_of_its_steps(
    database: Database, options: BusOptions
) -> None:
    async with running_relay(database, options, await new_life(database)) as relay:
        for number in range(20):
            for task_id in ("a", "b", "c"):
                await add_steps(database, task_id, number * 50 + 1, number * 50 + 50)
            relay.wake()
        await until(lambda: is_empty(database))
    records = await published(options)
    for task_id in ("a", "b", "c"):
        assert ids_in_order(records, task_id) == [f"{task_id}/{n}" for n in range(1, 1001)]
    assert len(records) == 3000


async def test_only_one_relay_publishes(database: Database, options: BusOptions) -> None:
    lives = [await new_life(database, name) for name in ("first", "second")]
    async with (
        running_relay(database, options, lives[0]) as first,
        running_relay(database, options, lives[1]) as second,
    ):
        await until(lambda: first.is_leader or second.is_leader)
        await add_steps(database, "a", 1, 100)
        await until(lambda: is_empty(database))
        assert first.is_leader != second.is_leader
    assert len(await published(options)) == 100


async def test_another_takes_over_when_the_leader_dies(
    database: Database, options: BusOptions
) -> None:
    dead, heir = await new_life(database, "dead"), await new_life(database, "heir")
    async with running_relay(database, options, dead) as first:
        await until(lambda: first.is_leader)
        await add_steps(database, "a", 1, 100)
        await until(lambda: is_empty(database))
        dead.is_alive = False
        # Its heartbeat is older than the lease.
        await database.fetch(
            "UPDATE workers SET heartbeat_at = now() - interval '1 hour' WHERE id = $1", dead.worker
        )
        await add_steps(database, "a", 101, 200)
        async with running_relay(database, options, heir):
            await until(lambda: is_empty(database))
    assert ids_in_order(await published(options), "a") == [f"a/{n}" for n in range(1, 201)]


async def test_who_may_be_taken_for_dead_sends_nothing(
    database: Database, options: BusOptions
) -> None:
    life = await new_life(database)
    life.is_alive = False
    relay = Relay(database, options, identity=life.identity())
    await add_steps(database, "a", 1, 10)
    assert await relay.run_once() == 0
    assert await count(database, "outbox") == 10


async def test_rows_wait_while_kafka_is_away(
    database: Database, options: BusOptions, kafka: KafkaServer
) -> None:
    async with running_relay(database, options, await new_life(database)) as relay:
        await add_steps(database, "a", 1, 10)
        await until(lambda: is_empty(database))
        await kafka.kill()
        await add_steps(database, "a", 11, 600)
        await until(lambda: bool(relay.problems))
        assert await count(database, "outbox") == 590
        await kafka.start()
        await until(lambda: is_empty(database), seconds=60)
        await until(lambda: not relay.problems)
    assert ids_in_order(await published(options), "a") == [f"a/{n}" for n in range(1, 601)]


async def test_rows_wait_while_postgresql_is_away(
    database: Database, options: BusOptions, postgres: PostgresServer
) -> None:
    async with running_relay(database, options, await new_life(database)) as relay:
        await add_steps(database, "a", 1, 10)
        await until(lambda: is_empty(database))
        await postgres.kill()
        await until(lambda: bool(relay.problems))
        await postgres.start()
        await add_steps(database, "a", 11, 20)
        await until(lambda: is_empty(database))
    assert ids_in_order(await published(options), "a") == [f"a/{n}" for n in range(1, 21)]


async def test_a_step_that_is_too_large_blocks_nobody(
    database: Database, options: BusOptions
) -> None:
    await add_steps(database, "a", 1, 3)
    big = "UPDATE steps SET body = jsonb_build_object('text', repeat('x', 2000000)) WHERE seq = 2"
    await database.fetch(big)
    async with running_relay(database, options, await new_life(database)):
        await until(lambda: is_empty(database))
    records = await published(options)
    assert ids_in_order(records, "a") == ["a/1", "a/2", "a/3"]
    assert [json.loads(r.value)["step"] is None for r in records] == [False, True, False]
    (letter,) = await read_topic(options, options.topics.dead_letters)
    assert dict(letter.headers)["dlq.reason"] == b"publish_too_large"


async def test_messages_shrink_until_the_brokers_take_them(
    database: Database, options: BusOptions
) -> None:
    await add_steps(database, "a", 1, 4)
    big = "UPDATE steps SET body = jsonb_build_object('text', repeat('x', 1500000)) WHERE seq = 2"
    await database.fetch(big)
    # More than the topic takes: Kafka itself has to refuse it.
    wide = replace(options, max_publish_bytes=3_000_000)
    async with running_relay(database, wide, await new_life(database)):
        await until(lambda: is_empty(database))
    assert ids_in_order(await published(options), "a") == ["a/1", "a/2", "a/3", "a/4"]


async def test_a_row_whose_task_was_deleted_is_removed(
    database: Database, options: BusOptions
) -> None:
    await add_steps(database, "a", 1, 2)
    await database.fetch("DELETE FROM steps")
    relay = Relay(database, options, identity=(await new_life(database)).identity())
    assert await relay.run_once() == 2
    assert await is_empty(database)


async def test_what_is_there_at_the_stop_is_published_and_the_lead_given_back(
    database: Database, options: BusOptions
) -> None:
    life = await new_life(database)
    async with running_relay(database, options, life) as relay:
        await until(lambda: relay.is_leader)
        await add_steps(database, "a", 1, 700)
        relay.stop()
    assert await is_empty(database)
    assert await count(database, "leases WHERE owner IS NOT NULL") == 0


async def test_what_kafka_took_is_not_sent_again_while_it_can_not_be_removed(
    database: Database, options: BusOptions
) -> None:
    async def was_tried_thrice() -> bool:
        ((tries,),) = await database.fetch("SELECT last_value FROM tries")
        return bool(tries >= 3)

    await database.fetch("CREATE SEQUENCE tries")
    await database.fetch(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN PERFORM nextval('tries'); RAISE read_only_sql_transaction; END$$"
    )
    await database.fetch("CREATE TRIGGER held BEFORE DELETE ON outbox EXECUTE FUNCTION refuse()")
    await add_steps(database, "a", 1, 10)
    async with running_relay(database, options, await new_life(database)):
        await until(was_tried_thrice)
        await database.fetch("DROP TRIGGER held ON outbox")
        await until(lambda: is_empty(database))

    assert [*ids_in_order(await published(options), "a")] == [f"a/{n}" for n in range(1, 11)]
    assert len(await published(options)) == 10
