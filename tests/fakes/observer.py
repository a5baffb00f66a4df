"""The outside of a service: publishes to its topics, reads what it publishes and what it stored."""

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import asyncpg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from orchestrator.bus.options import Topics

PATIENCE_SECONDS = 40.0
"""The machine may be busy with much else; what never comes takes this long to fail."""
FINAL = ("completed", "failed", "cancelled", "quarantined")


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """One message of `task-updates`."""

    id: str
    type: str
    task_id: str
    seq: int
    body: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """One message of `dead-letters`."""

    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes]

    def header(self, name: str) -> str:
        return self.headers[f"dlq.{name}"].decode()


class Observer:
    """Reads updates and dead letters from their beginning, in the background, from `open` on."""

    def __init__(self, *, database_url: str, topics: Topics, client: Mapping[str, Any]) -> None:
        """`client` is what every aiokafka client takes."""
        self.database_url = database_url
        self.topics = topics
        self.updates: dict[str, list[Update]] = defaultdict(list)
        """By task, as they arrived."""
        self.letters: list[Letter] = []
        self._client = dict(client)
        self._producer = AIOKafkaProducer(**client, acks="all", max_request_size=8 * 1024 * 1024)
        self._consumer = AIOKafkaConsumer(
            **client, auto_offset_reset="earliest", fetch_max_wait_ms=50
        )
        self._connection: Any = None

    async def open(self, stack: AsyncExitStack) -> None:
        """The topics have to be there."""
        stack.push_async_callback(self._close_connection)
        await self._producer.start()
        stack.push_async_callback(self._producer.stop)
        await self._consumer.start()
        stack.push_async_callback(self._consumer.stop)
        partitions = [
            TopicPartition(topic, number)
            for topic in (self.topics.task_updates, self.topics.dead_letters)
            for number in await self._producer.partitions_for(topic)
        ]
        self._consumer.assign(partitions)
        reading = asyncio.create_task(self._read(), name="observer")
        stack.push_async_callback(_ended, reading)

    # In

    async def publish(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        headers: Sequence[tuple[str, bytes | None]] = (),
        partition: int | None = None,
    ) -> None:
        await self._producer.send_and_wait(
            topic, value, key=key, headers=list(headers), partition=partition
        )

    async def task(self, task_id: str, words: str, *fields: str, **more: Any) -> None:
        """A task that asks for `fields`; its id stands in its description too, for the model."""
        value = {
            "task_id": task_id,
            "task_description": f"[{task_id}] {words}",
            "required_fields": list(fields),
            **more,
        }
        await self.publish(self.topics.tasks, json.dumps(value).encode(), key=task_id.encode())

    async def event(self, task_id: str, data: Mapping[str, Any] | None = None, **more: Any) -> None:
        value = {"task_id": task_id, **({"event_data": data} if data else {}), **more}
        await self.publish(self.topics.events, json.dumps(value).encode(), key=task_id.encode())

    # Out

    async def rows(self, sql: str, *arguments: Any) -> list[Any]:
        """What PostgreSQL has, in whichever database `database_url` names now."""
        if self._connection is None or self._connection.is_closed():
            self._connection = await asyncpg.connect(self.database_url, timeout=10)
            await self._connection.set_type_codec(
                "jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog"
            )
        found: list[Any] = await self._connection.fetch(sql, *arguments, timeout=10)
        return found

    async def row(self, task_id: str) -> Any:
        """The task; None before it is there."""
        found = await self.rows("SELECT * FROM tasks WHERE task_id = $1", task_id)
        return found[0] if found else None

    async def steps(self, task_id: str) -> list[Any]:
        return await self.rows("SELECT * FROM task_steps WHERE task_id = $1 ORDER BY seq", task_id)

    async def kinds(self, task_id: str) -> list[str]:
        return [step["kind"] for step in await self.steps(task_id)]

    async def statuses(self) -> dict[str, str]:
        found = await self.rows("SELECT task_id, status FROM tasks")
        return {row["task_id"]: row["status"] for row in found}

    async def reached(self, task_id: str, *statuses: str, seconds: float = PATIENCE_SECONDS) -> Any:
        """The task once it has one of these statuses; fails with what it has instead."""
        deadline = time.monotonic() + seconds
        while True:
            row = await self.row(task_id)
            if row is not None and row["status"] in statuses:
                return row
            if time.monotonic() > deadline or (row is not None and row["status"] in FINAL):
                raise AssertionError(f"{task_id}: not {statuses}, but {row and dict(row)}")
            await asyncio.sleep(0.02)

    async def completed(self, *task_ids: str, seconds: float = PATIENCE_SECONDS) -> None:
        """Returns when all of them are."""
        deadline = time.monotonic() + seconds
        wanted = set(task_ids)
        while True:
            statuses = await self.statuses()
            left = {t: statuses.get(t) for t in wanted if statuses.get(t) != "completed"}
            if not left:
                return
            ended = {t: s for t, s in left.items() if s in FINAL}
            if ended or time.monotonic() > deadline:
                shown = dict(list((ended or left).items())[:10])
                raise AssertionError(f"{len(left)} of {len(wanted)} not completed: {shown}")
            await asyncio.sleep(0.1)

    async def told(
        self, task_id: str, kind: str, *, seconds: float = PATIENCE_SECONDS
    ) -> list[Update]:
        """The task's updates once one of this type is among them."""
        deadline = time.monotonic() + seconds
        while not any(update.type == kind for update in self.updates[task_id]):
            if time.monotonic() > deadline:
                types = [update.type for update in self.updates[task_id]]
                raise AssertionError(f"{task_id}: no update {kind!r} among {types}")
            await asyncio.sleep(0.02)
        return list(self.updates[task_id])

    def renew_connection(self, database_url: str) -> None:
        """Reads another database from now on."""
        self.database_url = database_url
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _read(self) -> None:
        while True:
            try:
                record = await self._consumer.getone()
            except KafkaError:
                continue  # an absent broker: the client itself waits
            if record.topic == self.topics.task_updates:
                update = _update(record)
                self.updates[update.task_id].append(update)
            else:
                headers = dict(record.headers)
                self.letters.append(Letter(key=record.key, value=record.value, headers=headers))

    async def _close_connection(self) -> None:
        if self._connection is not None:
            self._connection.terminate()


def _update(record: ConsumerRecord) -> Update:
    body = json.loads(record.value)
    return Update(
        id=dict(record.headers)["id"].decode(),
        type=body["type"],
        task_id=body["task_id"],
        seq=body["seq"],
        body=body,
    )


async def _ended(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
