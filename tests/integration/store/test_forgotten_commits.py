"""A server that forgot its last commits gets no journal with a hole."""

from collections.abc import AsyncIterator

import pytest_asyncio

from orchestrator.domain.ids import Seq
from orchestrator.domain.step import EventApplied, Step
from orchestrator.store import claims, workers
from orchestrator.store.database import Database, DatabaseOptions
from orchestrator.store.ingest import Claimed
from orchestrator.store.journal import Entry, journal
from tests.fakes.workers import Feed, kinds


@pytest_asyncio.fixture(loop_scope="session")
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(DatabaseOptions(url=database_url, pool_size=2))
    await database.open()
    yield database
    await database.close()


def event(task: Claimed, *, seq: int) -> Entry:
    step = Step(seq=Seq(seq), body=EventApplied(event_type="data"))
    return Entry(key=task.key, epoch=task.epoch, seq=step.seq, steps=(step,))


async def test_a_step_that_follows_one_that_is_not_there_is_refused(database: Database) -> None:
    await Feed(database).task("t")
    worker = await workers.register(database, "w")
    (task,) = await claims.claim(database, worker, limit=1, shared_claims=5)

    refused = await journal(database, [event(task, seq=3)])
    taken = await journal(database, [event(task, seq=2)])

    assert refused == {}
    assert set(taken) == {task.key}
    assert await kinds(database, "t") == ["accepted", "event"]
