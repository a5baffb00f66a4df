"""Who is dead, and who only seems to be because PostgreSQL was silent."""

from datetime import UTC, datetime, timedelta

import pytest_asyncio

from orchestrator.engine.clock import Clock
from orchestrator.engine.lease import Lease
from orchestrator.engine.rescue import Rescue
from orchestrator.store import claims
from orchestrator.store.database import Database
from orchestrator.store.postgres import PostgresStore
from tests.fakes.workers import Feed, engine_options, task_row

LEASE = timedelta(seconds=10)


class Watch:
    """A rescue with its lease, on a clock that the test moves."""

    def __init__(self, database: Database) -> None:
        self.seconds = 100.0
        self.woken = 0
        options = engine_options(lease=LEASE)
        clock = Clock(seconds=lambda: self.seconds)
        self.lease = Lease(options.fence, seconds=clock.seconds)
        self.rescue = Rescue(
            PostgresStore(database), options, lease=self.lease, clock=clock, freed=self._freed
        )
        clock.set(datetime.now(UTC), elapsed_seconds=0)
        self.lease.renew(self.seconds)

    def _freed(self) -> None:
        self.woken += 1


@pytest_asyncio.fixture(loop_scope="session")
async def watch(database: Database, feed: Feed) -> Watch:
    """Beside a worker that was silent for long, and owns the task `t`."""
    await database.fetch("INSERT INTO workers (name, heartbeat_at) VALUES ('silent', '2020-01-01')")
    await feed.task("t")
    await database.fetch(
        "UPDATE tasks SET status = 'running', owner = (SELECT id FROM workers), epoch = 4"
    )
    return Watch(database)


async def test_tasks_of_a_dead_worker_are_runnable_again(database: Database, watch: Watch) -> None:
    assert await watch.rescue.run_once() == 1
    await watch.rescue.forget()

    row = await task_row(database, "t")
    assert (row["status"], row["owner"], row["epoch"]) == ("ready", None, 5)
    assert await database.fetch("SELECT FROM workers") == []
    assert watch.woken == 1
    assert await watch.rescue.run_once() == 0


async def test_who_was_silent_itself_gives_the_others_the_time_of_a_lease(watch: Watch) -> None:
    watch.seconds += 60  # PostgreSQL is away
    assert await watch.rescue.run_once() == 0
    watch.lease.renew(watch.seconds)
    assert await watch.rescue.run_once() == 0
    for _ in range(3):
        watch.seconds += LEASE.total_seconds() / 3.001
        watch.lease.renew(watch.seconds)
    assert await watch.rescue.run_once() == 0

    watch.seconds += 0.1

    assert await watch.rescue.run_once() == 1


async def test_a_look_that_was_long_under_way_takes_nothing_from_anyone(
    database: Database, watch: Watch
) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)

    assert await claims.reap(database, lease=LEASE, until=past) == 0
    assert await PostgresStore(database).forget_dead(lease=LEASE, until=past) == []
    assert (await task_row(database, "t"))["owner"] is not None
    assert not watch.woken
