"""What the tests of this folder ask Kafka and PostgreSQL."""

import json
from collections.abc import Iterable, Sequence

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import ConsumerRecord

from orchestrator.bus.options import BusOptions
from orchestrator.store import positions
from orchestrator.store.database import Database, Row


async def one(database: Database, sql: str) -> Row:
    row = await database.fetch_one(sql)
    assert row is not None
    return row


async def count(database: Database, table: str) -> int:
    return int((await one(database, f"SELECT count(*) AS n FROM {table}"))["n"])  # words: a test


async def has_tasks(database: Database, expected: int) -> bool:
    return await count(database, "tasks") >= expected


async def add_steps(database: Database, task_id: str, first: int, last: int) -> None:
    """Steps of a task and their outbox rows, as the journal writes them."""
    await database.fetch(
        """WITH t AS (
            INSERT INTO tasks (task_id, status) VALUES ($1, 'running')
            ON CONFLICT (task_id) DO UPDATE SET status = 'running' RETURNING id
        ), s AS (
            INSERT INTO steps (task, seq, kind, body, epoch)
            SELECT t.id, n, 'event', jsonb_build_object('n', n), 1
            FROM t, generate_series($2::int, $3::int) n
            RETURNING task, seq
        )
        INSERT INTO outbox (task, seq) SELECT task, seq FROM s ORDER BY seq""",
        task_id,
        first,
        last,
    )


def task_value(task_id: str, description: str = "x") -> bytes:
    return json.dumps({"task_id": task_id, "task_description": description}).encode()


async def publish_tasks(
    options: BusOptions, ids: Iterable[str], *, compression: str | None = None
) -> None:
    """Many at once, each keyed with its id."""
    async with AIOKafkaProducer(
        bootstrap_servers=options.bootstrap_servers, compression_type=compression, linger_ms=5
    ) as producer:
        sent = [
            await producer.send(options.topics.tasks, key=i.encode(), value=task_value(i))
            for i in ids
        ]
        for future in sent:
            await future


async def read_topic(options: BusOptions, topic: str) -> list[ConsumerRecord]:
    """Everything in it, partition by partition."""
    async with AIOKafkaConsumer(
        topic, bootstrap_servers=options.bootstrap_servers, auto_offset_reset="earliest"
    ) as consumer:
        partitions = sorted(consumer.assignment())
        ends = await consumer.end_offsets(partitions)
        await consumer.seek_to_beginning(*partitions)
        found: list[ConsumerRecord] = []
        while any([await consumer.position(p) < ends[p] for p in partitions]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                found += records
    return sorted(found, key=lambda r: (r.partition, r.offset))


async def all_positions(
    database: Database, options: BusOptions, cluster_id: str
) -> dict[tuple[str, int], int]:
    places = [(t, p) for t in options.topics.inputs for p in range(options.partitions)]
    found = await positions.read(database, cluster_id, places)
    return {place: position.next_offset for place, position in found.items()}


async def committed(options: BusOptions) -> dict[tuple[str, int], int]:
    """What Kafka has of the group, for whoever looks at its lag."""
    admin = AIOKafkaAdminClient(bootstrap_servers=options.bootstrap_servers)
    await admin.start()
    try:
        found = await admin.list_consumer_group_offsets(options.group_id)
    finally:
        await admin.close()
    return {(place.topic, place.partition): at.offset for place, at in found.items()}


def ids_in_order(records: Sequence[ConsumerRecord], task_id: str) -> list[str]:
    """The `id`s of a task's updates as they lie in the topic, each once."""
    ids = [json.loads(r.value)["id"] for r in records if r.key == task_id.encode()]
    return list(dict.fromkeys(ids))
