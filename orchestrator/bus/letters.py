"""The dead letters as they lie in their topic, and which of them are meant."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import ConsumerRecord

from orchestrator.bus.connection import check, client_arguments, kafka_errors
from orchestrator.bus.dead_letters import (
    ERROR,
    ID,
    MAX_ORIGIN_CHARACTERS,
    NEXT_OFFSET,
    OF_TASKS,
    ORIGINAL,
    ORIGINAL_HEADER,
    REASON,
    REPLAY_OF,
    REPLAYS,
    TASK_ID,
)
from orchestrator.bus.headers import Headers, first, headers_to_text
from orchestrator.bus.options import BusOptions
from orchestrator.domain.errors import KafkaUnavailable

READ_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterView:
    """A letter as it lies in the topic."""

    id: str
    reason: str
    error: str
    topic: str
    """Where the original lay; empty for a letter about no message."""
    partition: int | None
    offset: int | None
    task_id: str | None
    replays: int
    at: datetime
    """When the letter was written."""
    key: bytes | None
    value: bytes | None
    headers: Headers
    """The letter's own, the original's among them."""

    @property
    def origin(self) -> str:
        """What all letters share of which one came of another: by it they are counted."""
        first_letter = first(self.headers, REPLAY_OF)
        if first_letter and len(first_letter) <= MAX_ORIGIN_CHARACTERS:
            return first_letter
        return f"task/{self.task_id}" if self.is_of_task else self.id

    @property
    def is_of_task(self) -> bool:
        """Whether it is about a task that is stored; a crash loop may be one of a message."""
        return self.reason in OF_TASKS and self.task_id is not None

    @property
    def is_of_range(self) -> bool:
        """Whether its value is no message, but what lies at a range of offsets."""
        return first(self.headers, NEXT_OFFSET) is not None

    @property
    def original_headers(self) -> Headers:
        return tuple(
            (name.removeprefix(ORIGINAL_HEADER), value)
            for name, value in self.headers
            if name.startswith(ORIGINAL_HEADER)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterFilter:
    """Which letters are meant: those of which everything holds that is given."""

    reasons: frozenset[str] = frozenset()
    topic: str | None = None
    task_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    contains: str | None = None
    """In the error, the key or the value, whatever the case of its letters."""

    def matches(self, letter: DeadLetterView) -> bool:
        return (
            (not self.reasons or letter.reason in self.reasons)
            and self.topic in (None, letter.topic)
            and self.task_id in (None, letter.task_id)
            and (self.since is None or letter.at >= self.since)
            and (self.until is None or letter.at <= self.until)
            and (self.contains is None or _holds(letter, self.contains))
        )


def _holds(letter: DeadLetterView, text: str) -> bool:
    wanted = text.lower().encode()
    places = (letter.error.encode(), letter.key or b"", letter.value or b"")
    return any(wanted in place.lower() for place in places)


def latest_of_each(letters: Sequence[DeadLetterView]) -> list[DeadLetterView]:
    """Of letters, oldest first, those of which no other came."""
    latest = {letter.origin: letter.id for letter in letters}
    return [letter for letter in letters if latest[letter.origin] == letter.id]


async def read_dead_letters(options: BusOptions) -> list[DeadLetterView]:
    """All letters, oldest first. One that was written twice is given once.

    Raises:
        KafkaUnavailable, InvalidSettings: the topic can't be read.
    """
    topic = options.topics.dead_letters
    consumer = AIOKafkaConsumer(
        topic,
        **client_arguments(options),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    try:
        await _start(consumer, options)
        with kafka_errors(f"read topic {topic!r}"):
            async with asyncio.timeout(READ_SECONDS):
                records = await _read_all(consumer)
    finally:
        await consumer.stop()
    letters = {letter.id: letter for letter in map(_view, records)}
    return sorted(letters.values(), key=lambda letter: letter.at)


async def _start(consumer: AIOKafkaConsumer, options: BusOptions) -> None:
    try:
        with kafka_errors("start a consumer"):
            await consumer.start()
    except KafkaUnavailable:
        await check(options)  # says why, where a broker said so
        raise


async def _read_all(consumer: AIOKafkaConsumer) -> Sequence[ConsumerRecord]:
    """Everything from the topic's beginning to where it ends now."""
    partitions = list(consumer.assignment())
    ends = await consumer.end_offsets(partitions)
    await consumer.seek_to_beginning(*partitions)
    records: list[ConsumerRecord] = []
    while any([await consumer.position(p) < ends[p] for p in partitions]):
        for found in (await consumer.getmany(timeout_ms=500)).values():
            records += found
    return records


def _view(record: ConsumerRecord) -> DeadLetterView:
    headers = headers_to_text(record.headers)
    return DeadLetterView(
        id=first(headers, ID) or f"{record.partition}-{record.offset}",
        reason=first(headers, REASON) or "unknown",
        error=first(headers, ERROR) or "",
        topic=first(headers, f"{ORIGINAL}topic") or "",
        partition=_number(first(headers, f"{ORIGINAL}partition")),
        offset=_number(first(headers, f"{ORIGINAL}offset")),
        task_id=first(headers, TASK_ID),
        replays=_number(first(headers, REPLAYS)) or 0,
        at=datetime.fromtimestamp(record.timestamp / 1000, UTC),
        key=record.key,
        value=record.value,
        headers=headers,
    )


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() else None
