"""Statements that meet at a task's row: whoever comes second sees what the first one did."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest_asyncio

from orchestrator.domain.ids import Seq, WorkerId
from orchestrator.domain.step import Rested, Step
from orchestrator.domain.task import TaskStatus
from orchestrator.store import claims, workers
from orchestrator.store.database import Database, DatabaseOptions
from orchestrator.store.ingest import Claimed
from orchestrator.store.journal import Entry, Rest, Written, journal
from tests.fakes.bus import until
from tests.fakes.workers import Feed, kinds, task_row

NO_LEASE = timedelta(0)
LATER = datetime.now(UTC) + timedelta(hours=1)


@pytest_asyncio.fixture(loop_scope="session")
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(DatabaseOptions(url=database_url, pool_size=4))
    await database.open()
    yield database
    await database.close()


@pytest_asyncio.fixture(loop_scope="session")
async def other(database_url: str) -> AsyncIterator[Any]:
    """A connection whose transaction the test holds open."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def running_task(database: Database, worker_name: str = "w") -> tuple[WorkerId, Claimed]:
    await Feed(database).task("t")
    worker = await workers.register(database, worker_name)
    (task,) = await claims.claim(database, worker, limit=1, shared_claims=5)
    return worker, task


def rest(task: Claimed, *, seen: int = 0) -> Entry:
    step = Step(seq=Seq(2), body=Rested(waiting_for="the customer"))
    waiting = Rest(status=TaskStatus.WAITING, reason="the customer")
    return Entry(
        key=task.key, epoch=task.epoch, seq=step.seq, steps=(step,), seen=seen, rest=waiting
    )


@asynccontextmanager
async def meeting(
    database: Database, other: Any, first: Callable[[], Awaitable[object]], second: Awaitable[Any]
) -> AsyncIterator["asyncio.Future[Any]"]:
    """`first` in an open transaction, then `second`, which waits for it; then the commit."""
    transaction = other.transaction()
    await transaction.start()
    await first()
    waiting = asyncio.ensure_future(second)

    async def is_blocked() -> bool:
        sql = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND pid <> $1"
        return bool(await database.fetch(sql, other.get_server_pid()))

    await until(is_blocked, seconds=5, what="the second statement waits")
    await transaction.commit()
    yield waiting
    await waiting


async def test_a_message_that_comes_between_reading_and_resting_is_not_slept_through(
    database: Database, other: Any
) -> None:
    _, task = await running_task(database)

    async def message() -> None:
        await other.execute("UPDATE tasks SET wake = wake + 1 WHERE id = $1", task.key)

    async with meeting(database, other, message, journal(database, [rest(task)])) as resting:
        assert await resting == {task.key: Written(status=TaskStatus.READY, wake=1)}
    assert (await task_row(database, "t"))["owner"] is None


async def test_a_worker_that_loses_its_task_while_it_writes_writes_nothing(
    database: Database, other: Any
) -> None:
    _, task = await running_task(database)
    await database.fetch("UPDATE workers SET heartbeat_at = now() - interval '1 hour'")

    async def reap() -> None:
        await other.fetch(claims.REAP, timedelta(seconds=10), LATER)

    async with meeting(database, other, reap, journal(database, [rest(task)])) as resting:
        assert await resting == {}
    row = await task_row(database, "t")
    assert (row["status"], row["epoch"], row["seq"]) == ("ready", task.epoch + 1, 1)
    assert await kinds(database, "t") == ["accepted"]


async def test_a_task_that_came_to_rest_meanwhile_is_not_taken_from_its_dead_worker(
    database: Database, other: Any
) -> None:
    _, task = await running_task(database)

    async def come_to_rest() -> None:
        sql = "UPDATE tasks SET status = 'waiting', owner = NULL, run_at = 'infinity'"
        await other.execute(sql)

    reaping = claims.reap(database, lease=NO_LEASE, until=LATER)
    async with meeting(database, other, come_to_rest, reaping) as reaped:
        assert await reaped == 0
    row = await task_row(database, "t")
    assert (row["status"], row["epoch"]) == ("waiting", task.epoch)


async def test_a_task_that_a_living_worker_took_meanwhile_is_not_taken_from_it(
    database: Database, other: Any
) -> None:
    _, task = await running_task(database, "dead")
    await database.fetch("UPDATE workers SET heartbeat_at = now() - interval '1 hour'")
    living = await workers.register(database, "living")

    async def take_over() -> None:
        sql = "UPDATE tasks SET owner = $1, epoch = epoch + 2"
        await other.execute(sql, living)

    reaping = claims.reap(database, lease=timedelta(seconds=10), until=LATER)
    async with meeting(database, other, take_over, reaping) as reaped:
        assert await reaped == 0
    row = await task_row(database, "t")
    assert (row["status"], row["owner"], row["epoch"]) == ("running", living, task.epoch + 2)


async def test_a_restart_leaves_alone_what_its_earlier_life_just_gave_back(
    database: Database, other: Any
) -> None:
    worker, task = await running_task(database, "w")

    async def give_back() -> None:
        await other.fetch(claims.RELEASE, worker, [task.key], [task.epoch], None)

    registering = workers.register(database, "w")
    async with meeting(database, other, give_back, registering) as registered:
        assert await registered != worker
    row = await task_row(database, "t")
    assert (row["status"], row["epoch"], row["claims"]) == ("ready", task.epoch + 1, 0)


async def test_looks_for_the_dead_and_writes_of_the_living_make_no_deadlock(
    database: Database,
) -> None:
    feed = Feed(database)
    await feed.send([feed.new_task(f"t-{n}") for n in range(60)])

    async def churn(name: str) -> None:
        for _ in range(6):
            worker = await workers.register(database, name)
            mine = await claims.claim(database, worker, limit=30, shared_claims=1000)
            await journal(database, [rest(t, seen=-1) for t in reversed(mine)])
            await claims.reap(database, lease=NO_LEASE, until=LATER)
            await claims.release(database, worker, mine[::-1], delay=None)

    async with asyncio.timeout(30):
        await asyncio.gather(*(churn(f"w-{n}") for n in range(4)))
    rows = await database.fetch(
        "SELECT t.seq, (SELECT count(*) FROM steps WHERE task = t.id) n FROM tasks t"
    )
    assert all(r["seq"] == r["n"] for r in rows)
