"""Sending dead letters again: as they first came, or with a value that a person mended."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from orchestrator.bus.dead_letters import (
    CRASH_LOOP,
    FIRST_SEEN,
    GAP,
    HEADERS_LEFT_OUT,
    KEY_LENGTH,
    LENGTH,
    PUBLISH_TOO_LARGE,
    REPLAYS,
)
from orchestrator.bus.headers import Headers, first, headers_to_bytes
from orchestrator.bus.letters import DeadLetterView
from orchestrator.bus.producer import Publisher
from orchestrator.domain.errors import NotAllowed
from orchestrator.domain.step import NOBODYS_DECISION

MAX_REPLAYS = 3
NO_MESSAGE = (GAP, PUBLISH_TOO_LARGE)
"""Reasons of letters that stand for no message that ever came in."""
OF_TASKS = (*NOBODYS_DECISION, CRASH_LOOP)
"""Reasons of letters about a task that is stored: it is sent back to work, not published again."""


def obstacle(letter: DeadLetterView, *, force: bool, is_edited: bool = False) -> str | None:
    """Why the letter can't be sent again; None where it can.

    `force` allows what was sent again too often, an edited value replaces one that was cut.
    """
    is_of_nothing = letter.reason in OF_TASKS and letter.task_id is None
    if letter.reason in NO_MESSAGE or not letter.topic or is_of_nothing:
        return (
            f"dead letter {letter.id} ({letter.reason}) tells what happened and holds no message: "
            "there is nothing to send again"
        )
    if letter.reason in OF_TASKS and is_edited:
        return (
            f"dead letter {letter.id} ({letter.reason}) is about a task that is stored: what it "
            "was given can't be edited any more; publish another task"
        )
    lacks = _lacks(letter, is_edited=is_edited)
    if lacks is not None:
        return f"dead letter {letter.id} holds {lacks}: publish the message from its source again"
    if letter.replays >= MAX_REPLAYS and not force:
        return (
            f"dead letter {letter.id} was sent again {letter.replays} times already: mend what "
            "refuses it first, or use --force"
        )
    return None


def _lacks(letter: DeadLetterView, *, is_edited: bool) -> str | None:
    if letter.reason in OF_TASKS:
        return None
    if first(letter.headers, LENGTH) is not None and not is_edited:
        return "the beginning of its message"
    if first(letter.headers, KEY_LENGTH) is not None:
        return "the beginning of its key"
    return "no headers" if first(letter.headers, HEADERS_LEFT_OUT) is not None else None


async def replay(
    publisher: Publisher,
    letters: Sequence[DeadLetterView],
    *,
    force: bool = False,
    value: bytes | None = None,
    per_second: float | None = None,
) -> AsyncIterator[DeadLetterView]:
    """Publishes the originals again, with `dlq.replays` one higher; yields each that Kafka has.

    `value` takes the place of what was sent first, `per_second` bounds the pace.

    Raises:
        NotAllowed: one of them can't be sent again (`obstacle`); none was published.
        KafkaUnavailable: those that were not yielded may have been published, or not.
    """
    for letter in letters:
        if problem := obstacle(letter, force=force, is_edited=value is not None):
            raise NotAllowed(problem)
    loop = asyncio.get_running_loop()
    began = loop.time()
    for number, letter in enumerate(letters):
        if per_second is not None:
            await asyncio.sleep(began + number / per_second - loop.time())
        await publisher.publish(
            letter.topic,
            key=letter.key,
            value=letter.value if value is None else value,
            headers=headers_to_bytes(_replay_headers(letter)),
        )
        yield letter


def _replay_headers(letter: DeadLetterView) -> Headers:
    first_seen = first(letter.headers, FIRST_SEEN)
    kept = ((FIRST_SEEN, first_seen),) if first_seen else ()
    return (*letter.original_headers, (REPLAYS, str(letter.replays + 1)), *kept)
