"""Each error code that a broker may answer with: messages come in once, updates go out in order."""

import asyncio
from collections.abc import Iterator

import pytest

from orchestrator.bus.options import BusOptions
from orchestrator.bus.relay import Identity, Relay
from orchestrator.store import workers
from orchestrator.store.database import Database
from tests.fakes import mock_kafka as request
from tests.fakes.bus import bus_options, running_consumer, until
from tests.fakes.mock_kafka import MockKafka, running_mock_kafka
from tests.integration.bus.rows import (
    count,
    has_tasks,
    ids_in_order,
    publish_tasks,
    read_topic,
)

READING = {
    "fetch": (request.FETCH, (3, 6, 7) * 5),
    "list-offsets": (request.LIST_OFFSETS, (3, 5, 6, 7) * 3),
    "find-coordinator": (request.FIND_COORDINATOR, (15,) * 5),
    "join-group": (request.JOIN_GROUP, (14, 15, 16, 25) * 2),
    "sync-group": (request.SYNC_GROUP, (16, 22, 25, 27)),
    "heartbeat": (request.HEARTBEAT, (15, 16, 22, 25, 27)),
    "offset-commit": (request.OFFSET_COMMIT, (14, 15, 16, 22, 25, 27) * 3),
}
WRITING = {
    "produce": (request.PRODUCE, (3, 5, 6, 7, 45, 47, 59)),
    "init-producer-id": (request.INIT_PRODUCER_ID, (7, 14, 15, 16)),
}
TASKS = 20


@pytest.fixture(scope="module")
def mock() -> Iterator[MockKafka]:
    with running_mock_kafka() as mock:
        yield mock


@pytest.fixture
def options(mock: MockKafka, name: str) -> BusOptions:
    options = bus_options(mock.bootstrap_servers, f"{name}-")
    mock.create_topics(options.topics.all, partitions=2)
    return options


async def is_empty(database: Database) -> bool:
    return await count(database, "outbox") == 0


@pytest.mark.parametrize("name", READING)
async def test_messages_come_in_once_whatever_the_broker_answers(
    database: Database, mock: MockKafka, options: BusOptions, name: str
) -> None:
    kind, codes = READING[name]
    mock.will_answer(kind, *codes)
    async with running_consumer(database, options):
        await publish_tasks(options, [f"a{n}" for n in range(TASKS)])
        await until(lambda: has_tasks(database, TASKS), seconds=60)
        mock.will_answer(kind, *codes)
        await publish_tasks(options, [f"b{n}" for n in range(TASKS)])
        await until(lambda: has_tasks(database, 2 * TASKS), seconds=60)
    assert await count(database, "steps") == 2 * TASKS


@pytest.mark.parametrize("name", WRITING)
async def test_updates_go_out_in_order_whatever_the_broker_answers(
    database: Database, mock: MockKafka, options: BusOptions, name: str
) -> None:
    kind, codes = WRITING[name]
    async with running_consumer(database, options):
        await publish_tasks(options, [f"t{n}" for n in range(TASKS)])
        await until(lambda: has_tasks(database, TASKS))
    worker = await workers.register(database, "w")
    relay = Relay(
        database, options, identity=Identity(worker=lambda: worker, is_alive=lambda: True)
    )
    mock.will_answer(kind, *codes)
    running = asyncio.create_task(relay.run(), name="relay")
    await until(lambda: is_empty(database), seconds=60)
    relay.stop()
    await running

    records = await read_topic(options, options.topics.task_updates)
    for n in range(TASKS):
        assert set(ids_in_order(records, f"t{n}")) == {f"t{n}/1"}
