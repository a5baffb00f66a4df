"""The journal by months: where steps lie, how a month begins, and the move to it under load."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

import pytest
import pytest_asyncio

from orchestrator.domain.errors import NotAllowed
from orchestrator.domain.ids import TaskId
from orchestrator.domain.json import JsonObject
from orchestrator.domain.step import EventApplied, StepBody
from orchestrator.domain.task import TaskStatus
from orchestrator.engine.housekeeping import Housekeeping
from orchestrator.engine.options import EngineOptions
from orchestrator.store import history, migrations, retention, workers
from orchestrator.store.database import Database, DatabaseOptions
from orchestrator.store.journal import Rest
from tests.fixtures.dates import MOMENTS, as_of, this_month
from tests.fixtures.roles import role
from tests.fixtures.servers import PostgresServer
from tests.integration.store.journaled import Journal
from tests.integration.store.test_last_release import LastRelease, task

BEGIN = "begin_steps_month()"
DONE = Rest(status=TaskStatus.COMPLETED)
FOLDED: tuple[StepBody, JsonObject] = (EventApplied(event_type="data"), {"current_state": "x"})


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    database = Database(DatabaseOptions(url=url, pool_size=2))
    await database.open()
    yield database
    await database.close()


@pytest_asyncio.fixture(loop_scope="session")
async def database(database_url: str) -> AsyncIterator[Database]:
    async with opened(database_url) as database:
        yield database


@pytest_asyncio.fixture(loop_scope="session")
async def unmigrated(postgres: PostgresServer) -> AsyncIterator[str]:
    """A database of release 0.1.0's schema."""
    name = f"test_{uuid.uuid4().hex}"
    url = await postgres.create_database(name)
    await asyncio.to_thread(migrations.upgrade, url, to="0002")
    yield url
    await postgres.drop_database(name)


async def partitions(database: Database) -> list[str]:
    rows = await database.fetch("SELECT name FROM steps_partitions ORDER BY first_task")
    return [r["name"] for r in rows]


async def partition_of(database: Database, task_id: str) -> set[str]:
    rows = await database.fetch(
        "SELECT s.tableoid::regclass::text AS name FROM steps s JOIN tasks t ON t.id = s.task "
        "WHERE t.task_id = $1",
        task_id,
    )
    return {r["name"] for r in rows}


async def forget_this_month(database: Database) -> None:
    """As if it were still last month: the sequence of tasks, and no partition of this month."""
    await database.fetch(f"DROP TABLE IF EXISTS {await this_month(database)}")
    await database.fetch("SELECT setval('tasks_id_seq', 7)")


async def test_steps_of_a_task_lie_in_the_month_in_which_it_came(database: Database) -> None:
    await Journal(database).accept("t")

    assert await partition_of(database, "t") == {await this_month(database)}


async def test_month_that_nobody_began_refuses_nothing(database: Database) -> None:
    await forget_this_month(database)

    await Journal(database).accept("t")

    assert await partition_of(database, "t") == {"steps_before"}


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=list(MOMENTS))
async def test_month_begins_once_and_holds_the_tasks_from_then_on(
    database_url: str, moment: datetime
) -> None:
    async with opened(await as_of(database_url, moment)) as database:
        await forget_this_month(database)
        tasks = Journal(database)
        early = await tasks.accept("early")
        assert early is not None

        begun = await asyncio.gather(*(retention.begin_month(database) for _ in range(5)))

        await tasks.accept("late")
        await tasks.write(early, FOLDED, rest=DONE)
        assert begun.count(True) == 1
        assert await partition_of(database, "late") == {f"steps_{moment:%Y%m}"}
        assert await partition_of(database, "early") == {"steps_before"}


async def test_one_worker_keeps_house(database: Database) -> None:
    await forget_this_month(database)
    a, b = [await workers.register(database, name) for name in ("a", "b")]
    first = Housekeeping(database, EngineOptions(worker_name="a"), worker=lambda: a)
    second = Housekeeping(database, EngineOptions(worker_name="b"), worker=lambda: b)

    assert [await first.run_once(), await second.run_once()] == [True, False]
    assert await partitions(database) == ["steps_before", await this_month(database)]
    await workers.leave(database, a)
    assert await second.run_once()


async def test_worker_that_may_not_create_tables_can_begin_a_month(
    database: Database, database_url: str
) -> None:
    await forget_this_month(database)
    await database.fetch("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    async with (
        role(database, database_url, f"EXECUTE ON FUNCTION {BEGIN}") as url,
        opened(url) as limited,
    ):
        assert await retention.begin_month(limited)


async def test_who_may_only_read_neither_begins_a_month_nor_drops_one(
    database: Database, database_url: str
) -> None:
    async with (
        role(database, database_url, "SELECT ON tasks, steps") as url,
        opened(url) as reader,
    ):
        with pytest.raises(NotAllowed, match="permission denied for function begin_steps"):
            await retention.begin_month(reader)
        with pytest.raises(NotAllowed, match="permission denied for function drop_steps"):
            await retention.drop_partition(reader, "steps_before")


async def test_who_could_write_steps_before_may_still_begin_a_month(unmigrated: str) -> None:
    async with (
        opened(unmigrated) as database,
        role(database, unmigrated, "SELECT, INSERT ON tasks, steps") as url,
    ):
        await asyncio.to_thread(migrations.upgrade, unmigrated)
        await forget_this_month(database)
        async with opened(url) as worker:
            assert await retention.begin_month(worker)


async def test_last_release_goes_on_after_the_move_on_the_same_connections(
    unmigrated: str,
) -> None:
    async with opened(unmigrated) as database:
        old = LastRelease(database)
        await old.join()
        _, mine = await old.ingest(task("early"), room=1)
        await old.journal(mine["id"], mine["epoch"], seq=2, status=None)

        await asyncio.to_thread(migrations.upgrade, unmigrated)

        await old.journal(mine["id"], mine["epoch"], seq=3, status="completed")
        await old.ingest(task("late"), room=1)
        assert await partition_of(database, "early") == {"steps_before"}
        assert await partition_of(database, "late") == {await this_month(database)}
        assert [s.seq for s in await history.steps_of(database, TaskId("early"))] == [1, 2, 3]


async def test_who_could_read_the_journal_before_the_move_can_after_it(
    unmigrated: str,
) -> None:
    async with (
        opened(unmigrated) as database,
        role(database, unmigrated, "SELECT ON tasks, steps, task_steps") as url,
    ):
        await asyncio.to_thread(migrations.upgrade, unmigrated)
        async with opened(url) as reader:
            await reader.fetch("SELECT FROM task_steps")
            await reader.fetch("SELECT FROM steps")


async def test_partition_that_a_task_needs_is_not_dropped(database: Database) -> None:
    await forget_this_month(database)
    await Journal(database).accept("t")
    await retention.begin_month(database)

    assert not await retention.drop_partition(database, "steps_before")
    assert not await retention.drop_partition(database, await this_month(database))
    await database.fetch("DELETE FROM tasks")
    assert await retention.drop_partition(database, "steps_before")
