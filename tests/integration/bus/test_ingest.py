"""Messages in Kafka become rows, once."""

import json

from orchestrator.bus.options import BusOptions
from orchestrator.bus.producer import Publisher
from orchestrator.store.database import Database
from tests.fakes.bus import running_consumer, until


async def count(database: Database, table: str) -> int:
    row = await database.fetch_one(f"SELECT count(*) AS n FROM {table}")
    assert row is not None
    return int(row["n"])


async def publish_tasks(publisher: Publisher, options: BusOptions, ids: list[str]) -> None:
    for task_id in ids:
        value = json.dumps({"task_id": task_id, "task_description": "x"}).encode()
        await publisher.publish(options.topics.tasks, key=task_id.encode(), value=value)


async def test_a_task_message_becomes_a_task(
    database: Database, options: BusOptions, publisher: Publisher
) -> None:
    async with running_consumer(database, options):
        await publish_tasks(publisher, options, ["a", "b"])

        async def both_are_there() -> bool:
            return await count(database, "tasks") == 2

        await until(both_are_there)
