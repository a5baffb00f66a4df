"""Reading the dead letters, and sending one again as it first came."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import ConsumerRecord

from orchestrator.bus.connection import client_arguments, kafka_errors
from orchestrator.bus.dead_letters import (
    ERROR,
    FIRST_SEEN,
    GAP,
    HEADERS_LEFT_OUT,
    ID,
    LENGTH,
    ORIGINAL,
    ORIGINAL_HEADER,
    PUBLISH_TOO_LARGE,
    REASON,
    REPLAYS,
    TASK_ID,
)
from orchestrator.bus.headers import Headers, first, headers_to_bytes, headers_to_text
from orchestrator.bus.options import BusOptions
from orchestrator.bus.producer import Publisher
from orchestrator.domain.errors import NotAllowed, NotFound

MAX_REPLAYS = 3
READ_SECONDS = 60.0
NO_MESSAGE = (GAP, PUBLISH_TOO_LARGE)
"""Reasons of letters that stand for no message that ever came in."""


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
    def original_headers(self) -> Headers:
        return tuple(
            (name.removeprefix(ORIGINAL_HEADER), value)
            for name, value in self.headers
            if name.startswith(ORIGINAL_HEADER)
        )


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
    with kafka_errors(f"read topic {topic!r}"):
        try:
            await consumer.start()
            async with asyncio.timeout(READ_SECONDS):
                records = await _read_all(consumer)
        finally:
            await consumer.stop()
    letters = {letter.id: letter for letter in map(_view, records)}
    return sorted(letters.values(), key=lambda letter: letter.at)


async def replay(
    options: BusOptions,
    publisher: Publisher,
    ids: Collection[str],
    *,
    force: bool = False,
) -> list[DeadLetterView]:
    """Publishes the originals again, with `dlq.replays` one higher; answers which.

    Raises:
        NotFound: there is no letter with one of the ids; none was published.
        NotAllowed: one was replayed too often (`force` allows it), or holds no whole message.
    """
    found = {letter.id: letter for letter in await read_dead_letters(options)}
    absent = sorted(set(ids) - found.keys())
    if absent:
        raise NotFound(
            f"there is no dead letter {', '.join(map(repr, absent))}; "
            "`orchestrator dead-letters list` shows those there are"
        )
    letters = [found[id_] for id_ in ids]
    for letter in letters:
        _check(letter, force=force)
    for letter in letters:
        await publisher.publish(
            letter.topic,
            key=letter.key,
            value=letter.value,
            headers=headers_to_bytes(_replay_headers(letter)),
        )
    return letters


def _check(letter: DeadLetterView, *, force: bool) -> None:
    if letter.reason in NO_MESSAGE or not letter.topic:
        raise NotAllowed(
            f"dead letter {letter.id} ({letter.reason}) tells what happened and holds no message: "
            "there is nothing to send again"
        )
    for name, what in ((LENGTH, "the beginning of its message"), (HEADERS_LEFT_OUT, "no headers")):
        if first(letter.headers, name) is not None:
            raise NotAllowed(
                f"dead letter {letter.id} holds {what}: publish the message from its source again"
            )
    if letter.replays >= MAX_REPLAYS and not force:
        raise NotAllowed(
            f"dead letter {letter.id} was sent again {letter.replays} times already: mend what "
            "refuses it first, or use --force"
        )


def _replay_headers(letter: DeadLetterView) -> Headers:
    first_seen = first(letter.headers, FIRST_SEEN)
    kept = ((FIRST_SEEN, first_seen),) if first_seen else ()
    return (*letter.original_headers, (REPLAYS, str(letter.replays + 1)), *kept)


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
