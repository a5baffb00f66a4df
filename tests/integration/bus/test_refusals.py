"""What one output topic refuses: the others go on, nothing is lost, and it goes on once mended."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from orchestrator.bus.options import BusOptions
from orchestrator.bus.relay import Identity, Relay
from orchestrator.bus.topic_facts import look_at_topics
from orchestrator.bus.topics import admin, create_topics, ensure_topics
from orchestrator.domain.errors import StoreUnavailable
from orchestrator.local.kafka import LocalKafka
from orchestrator.store import outbox, workers
from orchestrator.store.database import Database, Row
from tests.fakes.acls import AUTHORIZER, allow_everything, deny_writing
from tests.fakes.bus import bus_options, until
from tests.integration.bus.rows import add_steps, count, ids_in_order, read_topic

SECOND = 1.0
UPDATES = 50


async def configure(options: BusOptions, topic: str, **settings: str) -> None:
    """Sets the topic's settings; each that is not named is the broker's default again."""
    named = {name.replace("_", "."): value for name, value in settings.items()}
    client = AIOKafkaAdminClient(bootstrap_servers=options.bootstrap_servers)
    await client.start()
    try:
        await client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, named)])
    finally:
        await client.close()


async def add_letters(
    database: Database, options: BusOptions, number: int, *, key: bytes | None, size: int = 10
) -> None:
    sql = """INSERT INTO outbox (topic, key, value, headers)
             SELECT $1, $2, convert_to(n || repeat('x', $3), 'UTF8'), '[["dlq.id", "1"]]'
             FROM generate_series(1, $4::int) n"""
    await database.fetch(sql, options.topics.dead_letters, key, size, number)


@asynccontextmanager
async def running_relay(database: Database, options: BusOptions) -> AsyncIterator[Relay]:
    worker = await workers.register(database, "w")
    identity = Identity(worker=lambda: worker, is_alive=lambda: True)
    relay = Relay(database, options, identity=identity)
    task = asyncio.create_task(relay.run(), name="relay")
    try:
        yield relay
    finally:
        relay.stop()
        await task


async def letters_in(options: BusOptions) -> Sequence[bytes]:
    records = await read_topic(options, options.topics.dead_letters)
    return [r.value for r in records]


async def updates_go_out(
    database: Database, relay: Relay, first: int, *, seconds: float = 5 * SECOND
) -> None:
    """Updates are published although letters are not."""
    await add_steps(database, "a", first, first + UPDATES - 1)
    relay.wake()

    async def are_out() -> bool:
        return await count(database, "outbox WHERE topic IS NULL") == 0

    await until(are_out, seconds=seconds, what="the updates to go out")


async def test_letters_that_a_compacted_topic_refuses_hold_up_no_update(
    database: Database, options: BusOptions
) -> None:
    await configure(options, options.topics.dead_letters, cleanup_policy="compact")
    await add_letters(database, options, 521, key=None)
    async with running_relay(database, options) as relay:
        await updates_go_out(database, relay, 1)
        await add_letters(database, options, 1, key=b"k")

        async def is_over() -> bool:
            return await count(database, "outbox") == 0

        await until(is_over)
        await updates_go_out(database, relay, UPDATES + 1)
    (refused,) = await outbox.refused(database)
    assert (refused.topic, refused.rows) == (options.topics.dead_letters, 521)
    assert refused.reason.startswith("INVALID_RECORD")
    assert await letters_in(options) == [b"1" + b"x" * 10]


async def test_what_was_set_aside_is_sent_again_in_its_order(
    database: Database, options: BusOptions
) -> None:
    topic = options.topics.dead_letters
    await configure(options, topic, cleanup_policy="compact")
    await add_letters(database, options, 30, key=None)
    async with running_relay(database, options) as relay:
        await until(lambda: _count_refused(database, 30))
        await configure(options, topic, cleanup_policy="delete")
        assert await outbox.send_again(database, topic=topic) == 30
        relay.wake()
        await until(lambda: _is_empty(database))
    assert [v[: v.index(b"x")] for v in await letters_in(options)] == [
        str(n).encode() for n in range(1, 31)
    ]


async def test_however_much_was_set_aside_no_statement_that_sends_it_again_is_long(
    database: Database, options: BusOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One statement for all ended with `statement_timeout` from some hundred megabytes on."""
    await add_letters(database, options, 350, key=None)
    ids = [row["id"] for row in await database.fetch("SELECT id FROM outbox ORDER BY id")]
    topic = options.topics.dead_letters
    await outbox.set_aside(database, dict.fromkeys(ids, "refused"), topic=topic)
    fetch, rows = Database.fetch, []

    async def watched(self: Database, sql: str, *args: object) -> Sequence[Row]:
        rows.append(found := await fetch(self, sql, *args))
        return found

    monkeypatch.setattr(Database, "fetch", watched)
    assert await outbox.send_again(database, topic="another") == 0
    assert await outbox.send_again(database, topic=topic) == 350
    assert max(map(len, rows)) <= 100
    assert [row["id"] for page in rows for row in page] == ids


async def test_what_went_out_is_not_sent_again_where_a_refusal_cannot_be_noted(
    database: Database, options: BusOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    await configure(options, options.topics.dead_letters, cleanup_policy="compact")
    await add_letters(database, options, 2, key=b"")  # in one partition with those without a key
    await add_letters(database, options, 1, key=None)
    set_aside, tries = outbox.set_aside, []

    async def failing(*args: Any, **more: Any) -> None:
        tries.append(args)
        if len(tries) < 3:
            raise StoreUnavailable("PostgreSQL is away")
        await set_aside(*args, **more)

    monkeypatch.setattr(outbox, "set_aside", failing)
    async with running_relay(database, options):
        await until(lambda: _is_empty(database))
    assert len(tries) == 3
    assert len(await letters_in(options)) == 2


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def strict(server_folder: Path) -> AsyncIterator[LocalKafka]:
    """A broker that looks at rights."""
    server = LocalKafka(server_folder / "strict-kafka", extra_properties=AUTHORIZER)
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def strict_options(strict: LocalKafka, topic_prefix: str) -> BusOptions:
    options = bus_options(strict.bootstrap_servers, topic_prefix)
    await ensure_topics(options)
    return options


async def test_letters_wait_for_their_right_and_go_on_by_themselves(
    database: Database, strict_options: BusOptions
) -> None:
    options = strict_options
    await deny_writing(options, options.topics.dead_letters)
    await add_letters(database, options, 521, key=None)
    async with running_relay(database, options) as relay:
        await updates_go_out(database, relay, 1)
        await until(lambda: bool(relay.problems))
        await updates_go_out(database, relay, UPDATES + 1, seconds=2 * SECOND)
        assert "does not allow" in relay.problems[0]
        assert await count(database, "outbox") == 521
        await allow_everything(options, options.topics.dead_letters)
        await until(lambda: _is_empty(database))
        await until(lambda: not relay.problems)
    assert len(set(await letters_in(options))) == 521
    assert await outbox.count_refused(database) == 0


async def test_a_topic_for_which_nothing_waits_any_more_is_no_problem(
    database: Database, strict_options: BusOptions
) -> None:
    await deny_writing(strict_options, strict_options.topics.dead_letters)
    await add_letters(database, strict_options, 5, key=None)
    async with running_relay(database, strict_options) as relay:
        await until(lambda: bool(relay.problems))
        await database.fetch("DELETE FROM outbox")
        await until(lambda: not relay.problems)


async def test_rights_and_settings_are_asked_of_the_broker(strict_options: BusOptions) -> None:
    options = strict_options
    await deny_writing(options, options.topics.task_updates)
    await configure(options, options.topics.dead_letters, cleanup_policy="compact")
    facts = {f.name: f for f in await look_at_topics(options)}
    assert sorted(facts) == sorted(options.topics.all)
    assert facts[options.topics.task_updates].denied == ("write",)
    assert [f.denied for f in facts.values()].count(()) == 3
    assert facts[options.topics.dead_letters].settings["cleanup.policy"] == "compact"
    assert facts[options.topics.dead_letters].replicas == 1


async def test_letters_wait_for_a_topic_that_is_gone(
    database: Database, options: BusOptions
) -> None:
    options = replace(options, create_topics=False)
    topic = options.topics.dead_letters
    async with admin(options) as client:
        await client.delete_topics([topic])
    await add_letters(database, options, 10, key=b"k")
    async with running_relay(database, options) as relay:
        await updates_go_out(database, relay, 1)
        await until(lambda: bool(relay.problems))
        await updates_go_out(database, relay, UPDATES + 1, seconds=2 * SECOND)
        await create_topics(options, (topic,))
        await until(lambda: _is_empty(database))
    assert len(await letters_in(options)) == 10


async def test_a_letter_larger_than_its_topic_takes_is_set_aside_whole(
    database: Database, options: BusOptions
) -> None:
    topic = options.topics.dead_letters
    await configure(options, topic, max_message_bytes="20000")
    await add_letters(database, options, 1, key=b"k", size=50_000)
    await add_letters(database, options, 3, key=b"k", size=10_000)
    async with running_relay(database, options) as relay:
        await updates_go_out(database, relay, 1)
        await until(lambda: _is_empty(database))
    assert [len(v) for v in await letters_in(options)] == [10_001] * 3
    await configure(options, topic, max_message_bytes="1000000")
    await outbox.send_again(database)
    async with running_relay(database, options):
        await until(lambda: _is_empty(database))
    assert [len(v) for v in await letters_in(options)] == [10_001] * 3 + [50_001]


async def test_updates_that_their_topic_refuses_hold_up_no_letter(
    database: Database, strict_options: BusOptions
) -> None:
    options = strict_options
    await deny_writing(options, options.topics.task_updates)
    await add_steps(database, "a", 1, 600)
    async with running_relay(database, options):
        await add_letters(database, options, 5, key=b"k")

        async def are_out() -> bool:
            return await count(database, "outbox WHERE topic IS NOT NULL") == 0

        await until(are_out)
        assert await count(database, "outbox") == 600
        await allow_everything(options, options.topics.task_updates)
        await until(lambda: _is_empty(database))
    records = await read_topic(options, options.topics.task_updates)
    assert ids_in_order(records, "a") == [f"a/{n}" for n in range(1, 601)]


async def _is_empty(database: Database) -> bool:
    return await count(database, "outbox") == 0


async def _count_refused(database: Database, expected: int) -> bool:
    return await outbox.count_refused(database) == expected
