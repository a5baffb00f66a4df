"""Each error code that a broker may answer with: messages come in once, updates go out in order."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from orchestrator.bus import mirror
from orchestrator.bus.options import BusOptions
from orchestrator.bus.relay import Identity, Relay
from orchestrator.store import workers
from orchestrator.store.database import Database
from tests.fakes import mock_kafka as request
from tests.fakes.bus import bus_options, running_consumer, until
from tests.fakes.mock_kafka import MockKafka, running_mock_kafka
from tests.integration.bus.rows import (
    add_steps,
    count,
    has_tasks,
    ids_in_order,
    publish_tasks,
    read_topic,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """Errors for one kind of request."""

    request: int
    codes: tuple[int, ...]
    again: tuple[int, ...] = ()
    """Of a heartbeat: what makes a member of the group send such a request once more."""


NOT_COORDINATOR, REBALANCE = (16,), (27,)
READING = {
    "fetch": Answers(request=request.FETCH, codes=(3, 6, 7) * 5),
    "list-offsets": Answers(request=request.LIST_OFFSETS, codes=(3, 5, 6, 7) * 3, again=REBALANCE),
    "find-coordinator": Answers(
        request=request.FIND_COORDINATOR, codes=(15,) * 5, again=NOT_COORDINATOR
    ),
    "join-group": Answers(request=request.JOIN_GROUP, codes=(14, 15, 16, 25) * 2, again=REBALANCE),
    "sync-group": Answers(request=request.SYNC_GROUP, codes=(16, 22, 25, 27), again=REBALANCE),
    "heartbeat": Answers(request=request.HEARTBEAT, codes=(15, 16, 22, 25, 27)),
    "offset-commit": Answers(request=request.OFFSET_COMMIT, codes=(14, 15, 16, 22, 25, 27) * 2),
}
WRITING = {
    "produce": Answers(request=request.PRODUCE, codes=(3, 5, 6, 7, 45, 47, 59)),
    "init-producer-id": Answers(request=request.INIT_PRODUCER_ID, codes=(7, 14, 15, 16)),
}
TASKS, UPDATES = 20, 10
SMALL_BYTES = 16 * 1024
"""Of a batch of updates: several batches a partition, so that errors come in between too."""
SESSION_SECONDS = 2.0
COMMIT_SECONDS = 0.1
"""Between two commits of offsets: each meets one error."""
SECONDS = 50
"""For each of two times."""


@pytest.fixture
def mock() -> Iterator[MockKafka]:
    """Of the test's own: an error that it left would be answered to the next one."""
    with running_mock_kafka() as mock:
        yield mock


@pytest.fixture
def options(mock: MockKafka, name: str) -> BusOptions:
    # A member that got a new id waits until its old one counts as dead; a third of it is the time
    # between two heartbeats.
    options = replace(
        bus_options(mock.bootstrap_servers, f"{name}-"), session_timeout_seconds=SESSION_SECONDS
    )
    mock.create_topics(options.topics.all, partitions=2)
    return options


@dataclass(slots=True, kw_only=True)
class Flow:
    """Tasks, one after the other, for as long as errors are left: offsets are committed of each."""

    database: Database
    options: BusOptions
    published: int = 0

    async def publish(self, number: int) -> None:
        first = self.published
        self.published += number
        await publish_tasks(self.options, [f"t{n}" for n in range(first, self.published)])

    async def goes_on_until_all_are_met(self, mock: MockKafka, answers: Answers) -> None:
        async def is_over() -> bool:
            if not await has_tasks(self.database, self.published):
                return False
            if mock.left(answers.request) == 0:
                return True
            await self.publish(1)
            return False

        await until(is_over, seconds=SECONDS, what="every error met, and every task taken in")


async def is_empty(database: Database) -> bool:
    return await count(database, "outbox") == 0


@pytest.mark.parametrize("name", READING)
async def test_messages_come_in_once_whatever_the_broker_answers(
    database: Database,
    mock: MockKafka,
    options: BusOptions,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers, flow = READING[name], Flow(database=database, options=options)
    monkeypatch.setattr(mirror, "INTERVAL_SECONDS", COMMIT_SECONDS)
    mock.will_answer(answers.request, *answers.codes)
    async with running_consumer(database, options):
        await flow.publish(TASKS)
        await flow.goes_on_until_all_are_met(mock, answers)
        mock.will_answer(answers.request, *answers.codes)
        if answers.again:
            mock.will_answer(request.HEARTBEAT, *answers.again)
        await flow.publish(TASKS)
        await flow.goes_on_until_all_are_met(mock, answers)
    assert await count(database, "tasks") == flow.published
    assert await count(database, "steps") == flow.published


@pytest.mark.parametrize("name", WRITING)
async def test_updates_go_out_in_order_whatever_the_broker_answers(
    database: Database, mock: MockKafka, options: BusOptions, name: str
) -> None:
    answers = WRITING[name]
    for number in range(1, UPDATES + 1):
        for task in range(TASKS):
            await add_steps(database, f"t{task}", number, number)
    worker = await workers.register(database, "w")
    relay = Relay(
        database,
        replace(options, max_publish_bytes=SMALL_BYTES),
        identity=Identity(worker=lambda: worker, is_alive=lambda: True),
    )
    mock.will_answer(answers.request, *answers.codes)
    running = asyncio.create_task(relay.run(), name="relay")
    await until(lambda: is_empty(database), seconds=60)
    relay.stop()
    await running

    assert mock.left(answers.request) == 0
    records = await read_topic(options, options.topics.task_updates)
    for task in range(TASKS):
        assert ids_in_order(records, f"t{task}") == [f"t{task}/{n}" for n in range(1, UPDATES + 1)]
