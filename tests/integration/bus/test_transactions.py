"""Messages of transactions: what is aborted is not read, what is open is told, no gaps."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaProducer

from orchestrator.bus import watch
from orchestrator.bus.options import BusOptions
from orchestrator.bus.topics import cluster_id
from orchestrator.store.database import Database
from orchestrator.telemetry import metrics
from tests.fakes.bus import running_consumer, until
from tests.integration.bus.rows import all_positions, count, has_tasks, task_value


async def publish_in_transactions(options: BusOptions, transactional_id: str) -> None:
    """One that is aborted, one that is committed, each with its marker, in one partition."""
    async with AIOKafkaProducer(
        bootstrap_servers=options.bootstrap_servers, transactional_id=transactional_id
    ) as producer:
        for task_id, is_committed in (("aborted", False), ("committed", True)):
            await producer.begin_transaction()
            await producer.send_and_wait(
                options.topics.tasks, value=task_value(task_id), partition=0
            )
            if is_committed:
                await producer.commit_transaction()
            else:
                await producer.abort_transaction()


async def test_only_committed_messages_are_read_and_the_position_passes_the_markers(
    database: Database, options: BusOptions, topic_prefix: str
) -> None:
    cluster = await cluster_id(options)
    async with running_consumer(database, options) as consumer:
        await publish_in_transactions(options, f"{topic_prefix}producer")
        await until(lambda: has_tasks(database, 1))

        async def is_at_the_end() -> bool:
            found = await all_positions(database, options, cluster)
            return found[options.topics.tasks, 0] == 4

        await until(is_at_the_end)
        assert consumer.state.is_ready
    assert await count(database, "tasks WHERE task_id = 'committed'") == 1
    assert await count(database, "tasks") == 1


@asynccontextmanager
async def open_transaction(options: BusOptions, transactional_id: str) -> AsyncIterator[None]:
    """As a producer that died leaves it, with a message of another one behind it."""
    async with AIOKafkaProducer(
        bootstrap_servers=options.bootstrap_servers, transactional_id=transactional_id
    ) as producer:
        topic = options.topics.tasks
        await producer.begin_transaction()
        await producer.send_and_wait(topic, value=task_value("open"), partition=0)
        async with AIOKafkaProducer(bootstrap_servers=options.bootstrap_servers) as other:
            await other.send_and_wait(topic, value=task_value("behind"), partition=0)
        yield
        await producer.abort_transaction()


async def test_what_waits_behind_an_open_transaction_is_told_with_its_producer(
    database: Database,
    options: BusOptions,
    topic_prefix: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(watch, "INTERVAL_SECONDS", 0.2)
    monkeypatch.setattr(watch, "PATIENCE_SECONDS", 0.5)
    said = ""

    def is_told() -> bool:
        nonlocal said
        said += capsys.readouterr().out
        return "messages wait behind an open transaction" in said

    async with running_consumer(database, options) as consumer:
        await until(lambda: consumer.state.is_ready)
        async with open_transaction(options, f"{topic_prefix}billing"):
            await until(is_told)
            value = blocked(options.topics.tasks, 0)
        await until(lambda: has_tasks(database, 1))
        await until(lambda: blocked(options.topics.tasks, 0) == 0)
    assert value == 2
    assert f"2 messages of {options.topics.tasks}/0 wait from offset 0 on until" in said
    assert f"'{topic_prefix}billing' (producer id " in said


def blocked(topic: str, partition: int) -> float:
    return float(metrics.KAFKA_BLOCKED.labels(topic, partition)._value.get())
