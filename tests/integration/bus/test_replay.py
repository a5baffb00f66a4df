"""Dead letters can be read, and sent again as they came."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.bus.letters import DeadLetterView, latest_of_each, read_dead_letters
from orchestrator.bus.options import BusOptions
from orchestrator.bus.producer import Publisher
from orchestrator.bus.relay import Identity, Relay
from orchestrator.bus.replay import counted, replay
from orchestrator.domain.errors import KafkaUnavailable, NotAllowed
from orchestrator.store import workers
from orchestrator.store.database import Database
from tests.fakes.bus import running_consumer, until
from tests.integration.bus.rows import count, read_topic

BAD = b'{"task_description": "x", "requiered_fields": []}'
LETTER_BYTES = 4_000
HEADERS = [("trace", b"\xff\x00"), ("trace", None), ("content-type", b"application/json")]


async def letters_after_one_bad_message(
    database: Database, options: BusOptions, publisher: Publisher
) -> Sequence[DeadLetterView]:
    """Publishes a message that can't be used and brings its letter to Kafka."""
    await publisher.publish(options.topics.tasks, key=b"k\xff", value=BAD, headers=HEADERS)
    return await bring_letters(database, options)


async def send_again(
    publisher: Publisher, database: Database, *letters: DeadLetterView, **options: Any
) -> list[DeadLetterView]:
    return [letter async for letter in replay(publisher, database, letters, **options)]


async def bring_letters(database: Database, options: BusOptions) -> Sequence[DeadLetterView]:
    async def has_letter() -> bool:
        return await count(database, "outbox WHERE topic IS NOT NULL") == 1

    async with running_consumer(database, options):
        await until(has_letter)
    worker = await workers.register(database, "w")
    identity = Identity(worker=lambda: worker, is_alive=lambda: True)
    relay = Relay(database, options, identity=identity)
    relay.stop()
    await relay.run(grace_seconds=60)
    return await read_dead_letters(options)


async def test_a_dead_letter_tells_what_a_person_needs(
    database: Database, options: BusOptions, publisher: Publisher
) -> None:
    (letter,) = await letters_after_one_bad_message(database, options, publisher)
    assert letter.reason == "schema"
    assert "did you mean 'required_fields'" in letter.error
    assert letter.topic == options.topics.tasks
    assert letter.offset == 0
    assert (letter.key, letter.value) == (b"k\xff", BAD)


async def test_a_replay_is_the_original_to_the_byte(
    database: Database, options: BusOptions, publisher: Publisher
) -> None:
    (letter,) = await letters_after_one_bad_message(database, options, publisher)
    await send_again(publisher, database, letter)
    first, again = await read_topic(options, options.topics.tasks)
    assert (again.key, again.value) == (first.key, first.value)
    assert [h for h in again.headers if not h[0].startswith("dlq.")] == HEADERS
    assert dict(again.headers)["dlq.replays"] == b"1"


async def test_replays_are_counted_through_the_letters(
    database: Database, options: BusOptions, publisher: Publisher
) -> None:
    (letter,) = await letters_after_one_bad_message(database, options, publisher)
    await send_again(publisher, database, letter)
    first, second = await bring_letters(database, options)
    assert (first.replays, second.replays) == (0, 1)
    assert second.id != first.id == second.origin


async def test_a_message_that_stays_bad_is_sent_again_three_times_in_all(
    database: Database, options: BusOptions, publisher: Publisher
) -> None:
    letters = await letters_after_one_bad_message(database, options, publisher)
    for _ in range(3):
        (latest,) = latest_of_each(letters)
        await send_again(publisher, database, latest)
        letters = await bring_letters(database, options)
    assert {letter.replays for letter in await counted(database, letters)} == {3}
    for letter in letters:
        with pytest.raises(NotAllowed, match="3 times already"):
            await send_again(publisher, database, letter)
    assert len(await read_topic(options, options.topics.tasks)) == 4


async def test_what_kafka_did_not_take_is_counted_too_often_never_too_rarely(
    database: Database, options: BusOptions, publisher: Publisher
) -> None:
    (letter,) = await letters_after_one_bad_message(database, options, publisher)
    with pytest.raises(KafkaUnavailable):
        await send_again(publisher, database, letter, value=b"x" * (options.max_publish_bytes + 1))
    (after,) = await counted(database, [letter])
    assert after.replays == 1


async def test_a_fourth_replay_has_to_be_forced(
    database: Database, options: BusOptions, publisher: Publisher
) -> None:
    await publisher.publish(
        options.topics.tasks, key=None, value=BAD, headers=[("dlq.replays", b"3")]
    )
    (letter,) = await bring_letters(database, options)
    with pytest.raises(NotAllowed, match="3 times already"):
        await send_again(publisher, database, letter)
    assert await send_again(publisher, database, letter, force=True) == [letter]


async def test_an_edited_value_takes_the_place_of_the_original(
    database: Database, options: BusOptions, publisher: Publisher
) -> None:
    small = replace(options, max_message_bytes=20)
    await publisher.publish(options.topics.tasks, key=b"k", value=BAD, headers=HEADERS)
    (letter,) = await bring_letters(database, small)
    await send_again(publisher, database, letter, value=b'{"task_description": "x"}')
    _, sent = await read_topic(options, options.topics.tasks)
    assert (sent.key, sent.value) == (b"k", b'{"task_description": "x"}')
    assert dict(sent.headers)["dlq.replays"] == b"1"


async def test_replays_keep_the_pace_that_was_asked_for(
    database: Database, options: BusOptions, publisher: Publisher
) -> None:
    (letter,) = await letters_after_one_bad_message(database, options, publisher)
    clock = asyncio.get_running_loop().time
    began = clock()
    await send_again(publisher, database, *[letter] * 6, per_second=20, force=True)
    assert clock() - began >= 5 / 20


async def test_a_letter_that_was_cut_is_not_sent_again(
    database: Database, options: BusOptions, publisher: Publisher
) -> None:
    small = replace(options, max_message_bytes=20, max_publish_bytes=LETTER_BYTES)
    value = BAD.ljust(2 * LETTER_BYTES)
    await publisher.publish(options.topics.tasks, key=None, value=value)
    (letter,) = await bring_letters(database, small)
    assert letter.value is not None
    assert len(letter.value) < LETTER_BYTES
    assert value.startswith(letter.value)
    with pytest.raises(NotAllowed, match="the beginning of its message"):
        await send_again(publisher, database, letter)
