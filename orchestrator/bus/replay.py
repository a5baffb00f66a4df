"""Sending dead letters again: as they first came, or with a value that a person mended.

How often that was done is counted in PostgreSQL (`store.replays`): of a replay that went well there
is nothing in Kafka to count.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace

from orchestrator.bus.dead_letters import (
    FIRST_SEEN,
    HEADERS_LEFT_OUT,
    KEY_LENGTH,
    LENGTH,
    OF_RANGES,
    PUBLISH_TOO_LARGE,
    REPLAY_OF,
    REPLAYS,
)
from orchestrator.bus.headers import Headers, first, headers_to_bytes
from orchestrator.bus.letters import DeadLetterView
from orchestrator.bus.options import Topics
from orchestrator.bus.producer import Publisher
from orchestrator.domain.errors import NotAllowed
from orchestrator.domain.ids import TaskId
from orchestrator.store import operations
from orchestrator.store.database import Database
from orchestrator.store.replays import count_replay, replays_of_messages, replays_of_tasks

MAX_REPLAYS = 3
NO_MESSAGE = (*OF_RANGES, PUBLISH_TOO_LARGE)
"""Reasons of letters that stand for no message that ever came in."""


def obstacle(
    letter: DeadLetterView, *, topics: Topics, force: bool, is_edited: bool = False
) -> str | None:
    """Why the letter can't be sent again; None where it can.

    `force` allows what was sent again too often, an edited value replaces one that was cut.
    """
    if letter.reason in NO_MESSAGE or not letter.topic or letter.is_of_range:
        return (
            f"dead letter {letter.id} ({letter.reason}) tells what happened and holds no message: "
            "there is nothing to send again"
        )
    if letter.is_of_task and is_edited:
        return (
            f"dead letter {letter.id} ({letter.reason}) is about a task that is stored: what it "
            "was given can't be edited any more; publish another task"
        )
    # Whoever may write to the topic of the letters writes this header.
    if not letter.is_of_task and letter.topic not in topics.inputs:
        return (
            f"dead letter {letter.id} names topic {letter.topic!r} as its origin: messages are "
            f"sent again only to {' and '.join(map(repr, topics.inputs))}; publish the value "
            "(`dead-letters show --raw`) yourself if it is meant for one of them"
        )
    lacks = _lacks(letter, is_edited=is_edited)
    if lacks is not None:
        return f"dead letter {letter.id} holds {lacks}: publish the message from its source again"
    if letter.replays >= MAX_REPLAYS and not force:
        return _too_often(letter.id, letter.replays)
    return None


def _too_often(letter_id: str, replays: int) -> str:
    return (
        f"dead letter {letter_id} was sent again {replays} times already: mend what "
        "refuses it first, or use --force"
    )


def _lacks(letter: DeadLetterView, *, is_edited: bool) -> str | None:
    if letter.is_of_task:
        return None
    if first(letter.headers, LENGTH) is not None and not is_edited:
        return "the beginning of its message"
    if first(letter.headers, KEY_LENGTH) is not None:
        return "the beginning of its key"
    return "no headers" if first(letter.headers, HEADERS_LEFT_OUT) is not None else None


async def counted(database: Database, letters: Sequence[DeadLetterView]) -> list[DeadLetterView]:
    """The letters, with `replays` as often as they, or those they came of, were sent again."""
    messages = await replays_of_messages(database, sorted({letter.origin for letter in letters}))
    tasks = await replays_of_tasks(database, _task_ids(letters))

    def replays(letter: DeadLetterView) -> int:
        of_task = tasks.get(TaskId(letter.task_id or ""), 0) if letter.is_of_task else 0
        return max(letter.replays, messages.get(letter.origin, 0), of_task)

    return [replace(letter, replays=replays(letter)) for letter in letters]


async def resting(database: Database, letters: Sequence[DeadLetterView]) -> Mapping[str, str]:
    """Letters, by id, whose task can't be sent back to work as it is now, and why."""
    problems = await operations.not_retryable(database, _task_ids(letters))
    of_tasks = [letter for letter in letters if letter.is_of_task]
    found = {letter.id: problems.get(TaskId(letter.task_id or "")) for letter in of_tasks}
    return {id_: f"dead letter {id_}: {problem}" for id_, problem in found.items() if problem}


def _task_ids(letters: Sequence[DeadLetterView]) -> list[TaskId]:
    return sorted({TaskId(i.task_id) for i in letters if i.is_of_task and i.task_id})


async def replay(
    publisher: Publisher,
    database: Database,
    letters: Sequence[DeadLetterView],
    *,
    force: bool = False,
    value: bytes | None = None,
    per_second: float | None = None,
) -> AsyncIterator[DeadLetterView]:
    """Publishes the originals again, each counted first; yields each that Kafka has.

    `value` takes the place of what was sent first, `per_second` bounds the pace.

    Raises:
        NotAllowed: one of them can't be sent again (`obstacle`), and none was published; or
            another command was faster, and those that were yielded are.
        KafkaUnavailable: those that were not yielded may have been published, or not. The first of
            them is counted.
        StoreUnavailable: those that were not yielded were not published.
    """
    for letter in letters:
        if problem := obstacle(
            letter, topics=publisher.topics, force=force, is_edited=value is not None
        ):
            raise NotAllowed(problem)
    async for letter in paced(letters, per_second=per_second):
        replays = await _count(database, letter, force=force)
        await publisher.publish(
            letter.topic,
            key=letter.key,
            value=letter.value if value is None else value,
            headers=headers_to_bytes(_replay_headers(letter, replays)),
        )
        yield letter


async def paced(
    letters: Sequence[DeadLetterView], *, per_second: float | None, start: int = 0
) -> AsyncIterator[DeadLetterView]:
    """The letters, each no sooner than its turn is; `start` of 1: another went just before."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    for number, letter in enumerate(letters, start):
        if per_second is not None:
            await asyncio.sleep(began + number / per_second - loop.time())
        yield letter


async def _count(database: Database, letter: DeadLetterView, *, force: bool) -> int:
    most = None if force else MAX_REPLAYS
    replays = await count_replay(database, letter.origin, known=letter.replays, most=most)
    if replays is None:
        raise NotAllowed(_too_often(letter.id, MAX_REPLAYS))
    return replays


def _replay_headers(letter: DeadLetterView, replays: int) -> Headers:
    first_seen = first(letter.headers, FIRST_SEEN)
    kept = ((FIRST_SEEN, first_seen),) if first_seen else ()
    kin = ((REPLAYS, str(replays)), (REPLAY_OF, letter.origin))
    # Ours first: the first of a name counts, whatever the letter claims its message had.
    return (*kin, *kept, *letter.original_headers)
