"""What is left of a run, from everyone who saw a part of it: gathered once, when all is quiet."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition

from chaos.arena import PARTITIONS, Arena
from chaos.fleet import Freeze
from chaos.kinds import BAD
from chaos.load import KIND_HEADER, Sent

READ_SECONDS = 180.0
"""Of everything that lies in Kafka."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRow:
    """Of `tasks`."""

    task_id: str
    status: str
    seq: int
    owner: int | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRow:
    """Of `steps`. `step`, `call` and `status` are those of a result."""

    task_id: str
    seq: int
    kind: str
    epoch: int
    at: float
    step: int | None = None
    call: int | None = None
    status: str | None = None

    @property
    def key(self) -> str:
        """The idempotency key of the call that it is about."""
        return f"{self.task_id}/{self.step}/{self.call}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """A call, as an agent received it."""

    key: str
    task_id: str
    agent: str
    epoch: int
    payload: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    key: str
    task_id: str
    agent: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    task_id: str
    turn: int
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """A message that lies in `tasks` or `events`."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    is_bad: bool

    @property
    def place(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """A message of `task-updates`."""

    id: str
    task_id: str
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A message of `dead-letters`; `place` is where its original lay."""

    id: str
    place: str
    key: bytes | None
    value: bytes | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    book: tuple[Sent, ...] = ()
    """What was published and acknowledged."""
    inputs: tuple[Input, ...] = ()
    updates: tuple[Update, ...] = ()
    letters: tuple[Letter, ...] = ()
    tasks: tuple[TaskRow, ...] = ()
    steps: tuple[StepRow, ...] = ()
    events: frozenset[tuple[str, str]] = frozenset()
    """(task, event id) of what is in the inbox."""
    positions: Mapping[str, int] | None = None
    """By `topic/partition`: how far is read; None where that was not asked."""
    ends: Mapping[str, int] | None = None
    outbox: int = 0
    """Rows that were never published."""
    prompts: tuple[Prompt, ...] = ()
    sends: tuple[Send, ...] = ()
    effects: tuple[Effect, ...] = ()
    freezes: tuple[Freeze, ...] = ()
    """Of workers."""


TASKS = "SELECT task_id, status, seq, owner, reason FROM tasks ORDER BY id"

STEPS = """
SELECT t.task_id, s.seq, s.kind, s.epoch, extract(epoch FROM s.at)::float8 AS at,
       (s.body->>'step')::int AS step, (s.body->>'call')::int AS call, s.body->>'status' AS status
FROM steps s JOIN tasks t ON t.id = s.task ORDER BY s.task, s.seq
"""

EVENTS = """
SELECT t.task_id, i.event_id FROM inbox i JOIN tasks t ON t.id = i.task
WHERE i.event_id IS NOT NULL
"""

POSITIONS = "SELECT topic || '/' || partition AS place, next_offset FROM kafka_positions"


UNPUBLISHED = """
SELECT (SELECT count(*) FROM outbox) + (SELECT count(*) FROM outbox_refused) AS n
"""


async def gather(arena: Arena) -> Evidence:
    """Asks everyone. Raises TimeoutError where Kafka does not answer for `READ_SECONDS`."""
    topics = arena.topics
    async with asyncio.timeout(READ_SECONDS), reading(arena) as consumer:
        read = await _everything(arena, consumer)
        ends = await input_ends(arena, consumer)
    inputs = tuple(_input(r) for topic in topics.inputs for r in read[topic])
    calls, llm = arena.folder / "agents.db", arena.folder / "llm.db"
    sends = await asyncio.to_thread(
        _read, calls, "SELECT key, task, agent, epoch, payload, at FROM sends ORDER BY at"
    )
    effects = await asyncio.to_thread(_read, calls, "SELECT key, task, agent FROM effects")
    prompts = await asyncio.to_thread(_read, llm, "SELECT task, turn, at FROM prompts ORDER BY at")
    return Evidence(
        book=tuple(arena.load.book),
        inputs=inputs,
        updates=tuple(_update(r) for r in read[topics.task_updates]),
        letters=tuple(_letter(r) for r in read[topics.dead_letters]),
        tasks=tuple(TaskRow(**dict(r)) for r in await arena.rows_soon(TASKS)),
        steps=tuple(StepRow(**dict(r)) for r in await arena.rows_soon(STEPS)),
        events=frozenset((r["task_id"], r["event_id"]) for r in await arena.rows_soon(EVENTS)),
        positions=await read_positions(arena),
        ends=ends,
        outbox=(await arena.rows_soon(UNPUBLISHED))[0]["n"],
        prompts=tuple(Prompt(task_id=t, turn=turn, at=at) for t, turn, at in prompts),
        sends=tuple(
            Send(key=k, task_id=t, agent=a, epoch=e, payload=p, at=at)
            for k, t, a, e, p, at in sends
        ),
        effects=tuple(Effect(key=k, task_id=t, agent=a) for k, t, a in effects),
        freezes=tuple(arena.fleet.freezes),
    )


def _read(file: Path, sql: str) -> list[Any]:
    record = sqlite3.connect(file)
    try:
        return record.execute(sql).fetchall()
    finally:
        record.close()


@asynccontextmanager
async def reading(arena: Arena) -> AsyncIterator[AIOKafkaConsumer]:
    """Of no group, so that no worker's partitions move."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=arena.kafka.bootstrap_servers, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def input_ends(arena: Arena, consumer: AIOKafkaConsumer) -> dict[str, int]:
    """Where each `topic/partition` of `tasks` and `events` ends."""
    ends = await consumer.end_offsets(_partitions(arena.topics.inputs))
    return {f"{p.topic}/{p.partition}": end for p, end in ends.items()}


async def read_positions(arena: Arena) -> dict[str, int]:
    """How far the workers have read each `topic/partition`."""
    return {row["place"]: row["next_offset"] for row in await arena.rows_soon(POSITIONS)}


async def _everything(arena: Arena, consumer: AIOKafkaConsumer) -> dict[str, list[Any]]:
    """All records by topic."""
    partitions = _partitions(arena.topics.all)
    consumer.assign(partitions)
    ends = await consumer.end_offsets(partitions)
    await consumer.seek_to_beginning(*partitions)
    read: dict[str, list[Any]] = {topic: [] for topic in arena.topics.all}
    while any([await consumer.position(p) < ends[p] for p in partitions]):
        for records in (await consumer.getmany(timeout_ms=200)).values():
            for record in records:
                read[record.topic].append(record)
    return read


def _partitions(topics: Sequence[str]) -> list[TopicPartition]:
    return [TopicPartition(topic, n) for topic in topics for n in range(PARTITIONS)]


def _input(record: Any) -> Input:
    return Input(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        key=record.key,
        value=record.value,
        is_bad=dict(record.headers).get(KIND_HEADER) == BAD.encode(),
    )


def _update(record: Any) -> Update:
    body = orjson.loads(record.value)
    return Update(id=dict(record.headers)["id"].decode(), task_id=body["task_id"], seq=body["seq"])


def _letter(record: Any) -> Letter:
    headers = {name: value.decode(errors="replace") for name, value in record.headers if value}
    return Letter(
        id=headers["dlq.id"],
        place="/".join(headers[f"dlq.original.{n}"] for n in ("topic", "partition", "offset")),
        key=record.key,
        value=record.value,
        reason=headers["dlq.reason"],
    )
