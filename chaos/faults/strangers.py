"""Members of the consumer group that are not of the service: what they take, and for how long."""

import asyncio
import itertools
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer
from aiokafka import errors as kafka
from confluent_kafka import Consumer

from chaos.arena import SESSION_SECONDS, Arena
from chaos.fault import Bar, Fault, Times
from chaos.kinds import task_message

UPDATED = "update while it is refused, s"
CAUGHT_UP = "update after it left, s"
REFUSED = b"refuses workers of this service as members of consumer group"
ENDS_SECONDS = 60.0
STAYS_SECONDS = (2.0, 5.0)

TOLD = """
SELECT t.id FROM tasks t JOIN steps s ON s.task = t.id AND s.seq = 1
WHERE t.task_id = $1 AND NOT EXISTS (SELECT FROM outbox o WHERE o.task = t.id AND o.seq = 1)
"""

_numbers = itertools.count(1)


async def intrude(arena: Arena) -> None:
    """One after the other: a worker of a copy, a consumer, a consumer of the new protocol."""
    await _worker_of_a_copy(arena)
    await _consumer(arena)
    await _consumer_that_kafka_admits(arena)


async def _worker_of_a_copy(arena: Arena) -> None:
    """It has to end, with the reason, and may not have taken a message."""
    name = f"copy_{uuid.uuid4().hex[:12]}"
    url = await arena.postgres.create_database(name, template=arena.servers.template)
    try:
        worker = await arena.fleet.launch(f"stranger-{next(_numbers)}", DATABASE_URL=url)
        worker.dismissed = True
        async with asyncio.timeout(ENDS_SECONDS):
            while worker.is_running:
                arena.measured[UPDATED].append(await _updated(arena))
                await asyncio.sleep(0.2)
        said = await asyncio.to_thread(worker.said)
        if worker.ended.result() != 1 or REFUSED not in said:
            tail = said[-600:].decode(errors="replace")
            arena.findings.append(f"a worker of a copy was not refused: {tail}")
    finally:
        await arena.postgres.drop_database(name)


async def _consumer(arena: Arena) -> None:
    consumer = AIOKafkaConsumer(
        *arena.topics.inputs,
        bootstrap_servers=arena.kafka.bootstrap_servers,
        group_id=arena.fleet.environ["KAFKA_GROUP_ID"],
        session_timeout_ms=int(SESSION_SECONDS * 1000),
        heartbeat_interval_ms=500,
    )
    try:
        async with asyncio.timeout(ENDS_SECONDS):
            await consumer.start()
        arena.findings.append("a stranger's consumer was let into the group")
    except kafka.InconsistentGroupProtocolError:
        arena.measured[UPDATED].append(await _updated(arena))
    finally:
        await consumer.stop()


async def _consumer_that_kafka_admits(arena: Arena) -> None:
    """Messages of its partitions wait until it leaves: from then on they may not wait long."""
    async with _of_the_new_protocol(arena):
        tasks = [_task(arena) for _ in range(10)]
        await asyncio.sleep(arena.dice.uniform(*STAYS_SECONDS))
    left = time.monotonic()
    await asyncio.gather(*(_told(arena, task) for task in tasks))
    arena.measured[CAUGHT_UP].append(time.monotonic() - left)


@asynccontextmanager
async def _of_the_new_protocol(arena: Arena) -> AsyncIterator[None]:
    consumer = Consumer(
        {
            "bootstrap.servers": arena.kafka.bootstrap_servers,
            "group.id": arena.fleet.environ["KAFKA_GROUP_ID"],
            "group.protocol": "consumer",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe(list(arena.topics.inputs))
    leaving = asyncio.Event()

    async def poll() -> None:
        while not leaving.is_set():
            await asyncio.to_thread(consumer.poll, 0.1)

    polling = asyncio.create_task(poll(), name="stranger")
    try:
        async with asyncio.timeout(ENDS_SECONDS):
            while not consumer.assignment():
                await asyncio.sleep(0.1)
        yield
    finally:
        leaving.set()
        await polling
        await asyncio.to_thread(consumer.close)


def _task(arena: Arena) -> str:
    task_id = f"turns-stranger-{next(_numbers)}"
    arena.load.add([task_message("turns", task_id)])
    return task_id


async def _updated(arena: Arena) -> float:
    """Seconds from a task's message to its first update."""
    began = time.monotonic()
    await _told(arena, _task(arena))
    return time.monotonic() - began


async def _told(arena: Arena, task_id: str) -> None:
    async with asyncio.timeout(ENDS_SECONDS):
        while not await arena.rows_soon(TOLD, task_id):
            await asyncio.sleep(0.02)


FAULT = Fault(
    name="foreign-group-member",
    injected="a worker of a copy of the database, a consumer of another program, and one of "
    "Kafka's new consumer protocol, which takes partitions for 2 to 5 s, join the group",
    inject=intrude,
    times=Times(alone=10, mixed=0, short=1),
    bars=(Bar(measure=UPDATED, at_most=1.0), Bar(measure=CAUGHT_UP, at_most=10.0)),
)
