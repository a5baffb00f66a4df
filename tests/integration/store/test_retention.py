"""What goes, what never does, and that most of it goes as whole tables."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio

from orchestrator.domain.errors import InvalidSettings, StoreUnavailable
from orchestrator.domain.ids import TaskId
from orchestrator.domain.step import EventApplied
from orchestrator.domain.task import TaskStatus
from orchestrator.engine.housekeeping import Housekeeping
from orchestrator.engine.options import EngineOptions
from orchestrator.store import operations, retention, workers
from orchestrator.store.database import Database, DatabaseOptions
from orchestrator.store.journal import Rest
from tests.fixtures.dates import this_month
from tests.integration.store.journaled import Journal

DAYS_90 = timedelta(days=90)


@pytest_asyncio.fixture(loop_scope="session")
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(DatabaseOptions(url=database_url, pool_size=3))
    await database.open()
    yield database
    await database.close()


class Archive(Journal):
    """Tasks of long ago: in the oldest partition, or in this month's, ended 100 days ago."""

    async def finished(
        self, *names: str, days: int = 100, status: TaskStatus = TaskStatus.COMPLETED
    ) -> None:
        for name in names:
            task = await self.accept(name)
            assert task is not None
            await self.write(
                task, (EventApplied(event_type="data"), None), rest=Rest(status=status)
            )
        await self.database.fetch(
            "UPDATE tasks SET finished_at = now() - $2 * interval '1 day' WHERE task_id = ANY($1)",
            names,
            days,
        )
        await self.database.fetch("DELETE FROM outbox")

    async def begin_long_ago(self) -> None:
        await self.database.fetch(f"DROP TABLE {await this_month(self.database)}")
        await self.database.fetch("SELECT setval('tasks_id_seq', 7)")

    async def names(self) -> set[str]:
        return {r["task_id"] for r in await self.database.fetch("SELECT task_id FROM tasks")}

    async def rows(self, table: str) -> int:
        row = await self.database.fetch_one(f"SELECT count(*) AS n FROM {table}")
        assert row is not None
        return int(row["n"])


@pytest_asyncio.fixture(loop_scope="session")
async def archive(database: Database) -> Archive:
    return Archive(database)


async def pruned(database: Database, age: timedelta = DAYS_90) -> retention.Pruned:
    found = await retention.months(database, older_than=age)
    return await retention.prune(database, found, older_than=age)


async def test_month_of_which_all_tasks_are_old_goes_as_one_table(archive: Archive) -> None:
    await archive.begin_long_ago()
    await archive.finished("a", "b")
    await retention.begin_month(archive.database)
    await archive.accept("new")

    gone = await pruned(archive.database)

    assert gone == retention.Pruned(tasks=2, months=("steps_before",))
    assert await archive.names() == {"new"}
    assert (await archive.rows("steps"), await archive.rows("inbox")) == (1, 1)


async def test_unfinished_task_keeps_its_month_and_the_others_of_it_go(archive: Archive) -> None:
    await archive.begin_long_ago()
    await archive.finished("old", "recent-too", days=100)
    await archive.finished("recent", days=10)
    await archive.accept("waits", is_claimed=False)
    await retention.begin_month(archive.database)

    gone = await pruned(archive.database)

    assert gone == retention.Pruned(tasks=2)
    assert await archive.names() == {"recent", "waits"}
    assert await archive.rows("steps_before") == 3


async def test_task_whose_update_is_still_on_its_way_stays(archive: Archive) -> None:
    await archive.begin_long_ago()
    await archive.finished("told", "untold")
    await archive.database.fetch(
        "INSERT INTO outbox (task, seq) SELECT id, 2 FROM tasks WHERE task_id = 'untold'"
    )
    await retention.begin_month(archive.database)

    assert (await pruned(archive.database)).tasks == 1
    assert await archive.names() == {"untold"}


async def test_quarantined_task_waits_for_a_person_for_ever(archive: Archive) -> None:
    await archive.begin_long_ago()
    await archive.finished("q", status=TaskStatus.FAILED)
    await archive.database.fetch("UPDATE tasks SET status = 'quarantined', finished_at = NULL")
    await retention.begin_month(archive.database)

    assert await pruned(archive.database) == retention.Pruned()
    assert await archive.names() == {"q"}


async def test_task_that_is_sent_back_to_work_between_count_and_delete_stays_whole(
    archive: Archive,
) -> None:
    await archive.begin_long_ago()
    await archive.finished("failed", "done", status=TaskStatus.FAILED)
    await retention.begin_month(archive.database)
    found = await retention.months(archive.database, older_than=DAYS_90)
    await operations.retry(archive.database, TaskId("failed"))

    gone = await retention.prune(archive.database, found, older_than=DAYS_90)

    assert gone == retention.Pruned(tasks=1)
    assert await archive.names() == {"failed"}
    row = await archive.database.fetch_one("SELECT count(*) AS n FROM task_steps")
    assert row is not None
    assert row["n"] == 3
    await archive.database.fetch("DELETE FROM tasks")
    assert (await pruned(archive.database)).months == ("steps_before",)


async def test_prune_that_was_cut_off_is_done_again(archive: Archive) -> None:
    await archive.begin_long_ago()
    await archive.finished("a", "b")
    await retention.begin_month(archive.database)
    found = await retention.months(archive.database, older_than=DAYS_90)

    def cut(_: int) -> None:
        raise StoreUnavailable("cut")

    with pytest.raises(StoreUnavailable):
        await retention.prune(archive.database, found, older_than=DAYS_90, progress=cut)

    assert await archive.names() == set()
    assert (await pruned(archive.database)).months == ("steps_before",)


async def test_this_month_loses_rows_and_stays(archive: Archive) -> None:
    await archive.finished("a")
    await archive.accept("b", is_claimed=False)

    assert await pruned(archive.database, timedelta(0)) == retention.Pruned(
        tasks=1, months=("steps_before",)
    )
    assert await archive.rows(await this_month(archive.database)) == 1


@pytest.mark.parametrize(("days", "goes"), [(35, True), (3650, False)])
async def test_worker_that_keeps_house_deletes_by_the_month(
    archive: Archive, days: int, *, goes: bool
) -> None:
    await archive.begin_long_ago()
    await archive.finished("a")
    await retention.begin_month(archive.database)
    await archive.database.fetch("ALTER TABLE steps DETACH PARTITION steps_before")
    await archive.database.fetch(
        "ALTER TABLE steps ATTACH PARTITION steps_before "
        "FOR VALUES FROM (0) TO (202001000000000000)"
    )
    worker = await workers.register(archive.database, "house")
    options = EngineOptions(worker_name="house", keep_finished=timedelta(days=days))
    house = Housekeeping(archive.database, options, worker=lambda: worker)
    await house.run_once()

    assert (await house.prune()).months == (("steps_before",) if goes else ())


def test_producers_have_30_days_to_send_a_message_again() -> None:
    with pytest.raises(InvalidSettings, match="30 days"):
        EngineOptions(worker_name="w", keep_finished=timedelta(days=29))


async def test_workers_that_come_and_go_leave_no_rows(database: Database) -> None:
    for number in range(20):
        worker = await workers.register(database, f"w{number}")
        await workers.lead(database, "housekeeping", worker, lease=timedelta(seconds=10))
        if number % 2:
            await workers.leave(database, worker)
    await database.fetch("UPDATE workers SET heartbeat_at = now() - interval '1 hour'")

    later = datetime.now(UTC) + timedelta(hours=1)
    dead = await workers.forget_dead(database, lease=timedelta(seconds=10), until=later)
    assert len(dead) == 10
    rows = await database.fetch("SELECT FROM workers")
    assert len(rows) == 0
    assert len(await database.fetch("SELECT FROM leases")) == 1
