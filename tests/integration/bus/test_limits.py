"""Messages that would cost too much: refused before they do, and their partition goes on."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from aiokafka import AIOKafkaProducer

from orchestrator.bus import inflating
from orchestrator.bus.consumer import Consumer
from orchestrator.bus.intake import Item, Reader
from orchestrator.bus.options import BusOptions
from orchestrator.domain.errors import SchemaMismatch
from orchestrator.domain.ids import WorkerId
from orchestrator.store.database import Database, Row
from tests.fakes.bus import CountingEngine, running_consumer, until
from tests.integration.bus.rows import count, has_tasks, publish_tasks, task_value

KIB = 1024
POISON = b"poison"


async def publish(
    options: BusOptions, values: Sequence[bytes], *, compression: str | None = None
) -> None:
    """As one batch of one partition."""
    async with AIOKafkaProducer(
        bootstrap_servers=options.bootstrap_servers,
        compression_type=compression,
        linger_ms=50,
        max_batch_size=8 * KIB * KIB,
        max_request_size=8 * KIB * KIB,
    ) as producer:
        sent = [await producer.send(options.topics.tasks, v, partition=0) for v in values]
        for future in sent:
            await future


async def letters(database: Database) -> list[tuple[dict[str, str], Row]]:
    rows = await database.fetch("SELECT * FROM outbox WHERE topic IS NOT NULL ORDER BY id")
    return [(dict(row["headers"]), row) for row in rows]


@pytest.mark.parametrize("compression", ["gzip", "snappy", "lz4", "zstd"])
async def test_a_batch_too_large_to_decompress_is_a_dead_letter_and_the_partition_goes_on(
    database: Database, options: BusOptions, compression: str
) -> None:
    options = replace(options, batch_bytes=64 * KIB, max_message_bytes=100 * KIB)
    await publish(options, [task_value("a")])
    await publish(options, [task_value("b"), b" " * (2 * KIB * KIB)], compression=compression)
    await publish(options, [task_value("c")], compression=compression)
    async with running_consumer(database, options):
        await until(lambda: has_tasks(database, 2))
    ((headers, row),) = await letters(database)
    assert headers["dlq.reason"] == "batch_too_large"
    assert "larger than 204800 bytes" in headers["dlq.error"]
    assert headers["dlq.original.offset"] == "1"
    assert headers["dlq.gap.next_offset"] == "3"
    assert len(row["value"]) < 200 * KIB


async def test_many_batches_that_are_large_only_together_are_all_read(
    database: Database, options: BusOptions
) -> None:
    options = replace(options, batch_bytes=64 * KIB, max_message_bytes=100 * KIB)
    tasks = [task_value(f"t{n}", "x" * 90 * KIB) for n in range(20)]
    for task in tasks:
        await publish(options, [task], compression="zstd")
    async with running_consumer(database, options):
        await until(lambda: has_tasks(database, len(tasks)))
    assert await letters(database) == []


class Killing:
    """Reads like `Reader`, and dies of one value."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._read = Reader.read
        self.deaths = 0
        killing = self

        def read(self: Reader, record: object) -> Item:
            if getattr(record, "value", None) == POISON:
                killing.deaths += 1
                raise SystemError("killed")
            return killing._read(self, record)

        monkeypatch.setattr(Reader, "read", read)


async def lives_until(
    database: Database, options: BusOptions, tasks: int, *, most: int = 10
) -> int:
    """Workers one after the other, each with an id of its own; how many of them died."""
    for number in range(most):
        engine = CountingEngine(worker=WorkerId(100 + number)).as_engine()
        consumer = Consumer(database, options, engine=engine)
        life = asyncio.create_task(consumer.run(), name="consumer")

        async def is_over(life: asyncio.Task[None] = life) -> bool:
            return life.done() or await has_tasks(database, tasks)

        await until(is_over)
        consumer.stop()
        try:
            await life
        except SystemError:
            continue
        return number
    raise AssertionError(f"all {most} workers died")


@pytest.mark.parametrize("before", [0, 1, 30])
async def test_a_message_that_kills_its_readers_is_a_dead_letter_after_a_few(
    database: Database, options: BusOptions, monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    Killing(monkeypatch)
    first = [task_value(f"t{n}") for n in range(before)]
    await publish(options, [*first, POISON, task_value("after")])
    assert 2 <= await lives_until(database, options, before + 1) <= 5
    ((headers, row),) = await letters(database)
    assert headers["dlq.reason"] == "crash_loop"
    assert headers["dlq.original.offset"] == str(before)
    assert row["value"] == POISON


async def test_a_batch_that_kills_whoever_fetches_it_is_a_dead_letter_as_it_came(
    database: Database, options: BusOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killing(_: bytes) -> bytes:
        raise SystemError("killed")

    await publish(options, [task_value("a"), task_value("b")], compression="zstd")
    await publish(options, [task_value("c")])
    with monkeypatch.context() as patched:
        patched.setitem(inflating.CODECS, "zstd_decode", killing)
        assert 2 <= await lives_until(database, options, 1) <= 5
    inflating.limit_batches(options.max_inflated_bytes)  # the codecs as they were
    ((headers, row),) = await letters(database)
    assert headers["dlq.reason"] == "crash_loop"
    assert (headers["dlq.original.offset"], headers["dlq.gap.next_offset"]) == ("0", "2")
    assert inflating.CODECS["zstd_decode"](row["value"][61:]).count(b"task_id") == 2


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The attempts to read a suspect partition."""
    found: list[str] = []
    fetch = Database.fetch_one

    async def watched(self: Database, sql: str, *args: object) -> Row | None:
        if "crashes + 1" in sql:
            found.append(sql)
        return await fetch(self, sql, *args)

    monkeypatch.setattr(Database, "fetch_one", watched)
    return found


async def test_who_ends_well_or_lives_makes_nothing_suspect(
    database: Database, options: BusOptions, marked: list[str]
) -> None:
    for number in range(3):
        engine = CountingEngine(worker=WorkerId(100 + number))
        async with running_consumer(database, options, engine) as consumer:
            await until(lambda: consumer.state.is_ready)
    await publish_tasks(options, ["a"])
    async with running_consumer(database, options, CountingEngine(worker=WorkerId(200))):
        await until(lambda: has_tasks(database, 1))
    assert marked == []
    assert await count(database, "kafka_positions WHERE crashes > 0") == 0


async def test_a_partition_without_messages_is_not_suspect_when_its_reader_dies(
    database: Database, options: BusOptions, marked: list[str]
) -> None:
    """Each would be waited for alone, and all others with messages would wait meanwhile."""
    engine = CountingEngine(worker=WorkerId(100)).as_engine()
    consumer = Consumer(database, options, engine=engine)
    life = asyncio.create_task(consumer.run(), name="consumer")
    await until(lambda: consumer.state.is_ready)
    life.cancel()
    await asyncio.wait({life})
    await publish_tasks(options, ["a"])
    async with running_consumer(database, options, CountingEngine(worker=WorkerId(200))):
        await until(lambda: has_tasks(database, 1))
    assert len(marked) <= 1, "only where the message waits"


async def test_who_ends_because_of_the_database_blames_no_message(
    database: Database, options: BusOptions
) -> None:
    """Each life reads the message and ends with the error, until the table is there again."""
    await publish_tasks(options, ["a"])
    await database.fetch("ALTER TABLE inbox RENAME TO away")
    for number in range(5):
        engine = CountingEngine(worker=WorkerId(100 + number)).as_engine()
        with pytest.raises(SchemaMismatch):
            await Consumer(database, options, engine=engine).run()
    await database.fetch("ALTER TABLE away RENAME TO inbox")
    async with running_consumer(database, options, CountingEngine(worker=WorkerId(200))):
        await until(lambda: has_tasks(database, 1))
    assert await letters(database) == []
