"""Each invariant is silent on a healthy system, and speaks where its violation was planted."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio

from orchestrator.domain.step import EventApplied, StepBody
from orchestrator.domain.task import TaskStatus
from orchestrator.engine.housekeeping import Housekeeping
from orchestrator.engine.options import EngineOptions
from orchestrator.store import invariants, retention, workers
from orchestrator.store.database import Database, DatabaseOptions
from orchestrator.store.invariants import INVARIANTS
from orchestrator.store.journal import Rest
from orchestrator.telemetry.metrics import INVARIANT_VIOLATIONS
from tests.fixtures.dates import MOMENTS, as_of
from tests.integration.store.journaled import Journal

MIDDLE_OF_MONTH = datetime(2030, 6, 15, tzinfo=UTC)
STEP: StepBody = EventApplied(event_type="data")
LATE = "now() - interval '5 minutes'"

VIOLATIONS = {
    "no_wake_up": "UPDATE tasks SET run_at = 'infinity' WHERE task_id = 'ready'",
    "overdue": f"UPDATE tasks SET run_at = {LATE}, updated_at = {LATE} WHERE task_id = 'ready'",
    "no_worker": "DELETE FROM workers",
    "stranded": f"UPDATE workers SET heartbeat_at = {LATE}",
    "not_run": f"UPDATE tasks SET updated_at = {LATE} WHERE task_id = 'running'",
    "crash_loop": f"UPDATE tasks SET claims = 5, run_at = {LATE}, updated_at = {LATE} "
    "WHERE task_id = 'ready'",
    "expected_late": f"UPDATE tasks SET run_at = {LATE} WHERE task_id = 'expected'",
    "outbox_old": f"UPDATE steps SET at = {LATE}",
    "position_behind": "UPDATE kafka_positions SET next_offset = 1",
    "partition_unread": "UPDATE workers SET intake_at = " + LATE + ", intake = "
    """'{"cluster": "c", "topics": {"tasks": 2}, "reads": {"tasks": [0]}}'""",
    "month_not_begun": "DELETE FROM tasks; ALTER TABLE steps DETACH PARTITION {month}",
    "gap": "DELETE FROM steps WHERE seq = 2",
    "epoch_fell": "UPDATE steps SET epoch = 0 WHERE seq = 2",
    "half_ended": "UPDATE tasks SET finished_at = NULL WHERE task_id = 'done'",
    "context_differs": "UPDATE tasks SET context = '{}' WHERE task_id = 'done'",
    "slept_through": "UPDATE inbox SET seq = NULL WHERE task = "
    "(SELECT id FROM tasks WHERE task_id = 'waiting')",
}


@pytest_asyncio.fixture(loop_scope="session")
async def database(database_url: str) -> AsyncIterator[Database]:
    """With a task in every state, and a worker that runs what it owns."""
    url = await as_of(database_url, MIDDLE_OF_MONTH)
    database = Database(DatabaseOptions(url=url, pool_size=2))
    await database.open()
    await retention.begin_month(database)
    tasks = Journal(database)
    await tasks.accept("ready", is_claimed=False)
    await tasks.expect("expected")
    for name, rest in (
        ("running", None),
        ("waiting", Rest(status=TaskStatus.WAITING)),
        ("done", Rest(status=TaskStatus.COMPLETED)),
        ("failed", Rest(status=TaskStatus.FAILED)),
    ):
        task = await tasks.accept(name)
        assert task is not None
        await tasks.write(task, (STEP, {"current_state": name}), (STEP, None), rest=rest)
    await database.fetch("UPDATE tasks SET run_at = now() + '1 hour' WHERE status = 'waiting'")
    await database.fetch("UPDATE workers SET tasks = 0, room = 100")
    yield database
    await database.close()


async def broken(database: Database, *, is_deep: bool = True) -> dict[str, int]:
    found = await invariants.check(
        database, lease=timedelta(seconds=10), max_claims=5, is_deep=is_deep
    )
    return {f.invariant.name: f.violations for f in found if f.violations}


@pytest.mark.parametrize("is_deep", [False, True], ids=["shallow", "deep"])
async def test_healthy_system_breaks_no_invariant(database: Database, *, is_deep: bool) -> None:
    assert await broken(database, is_deep=is_deep) == {}


def test_every_invariant_has_its_violation() -> None:
    assert set(VIOLATIONS) == set(INVARIANTS)


@pytest.mark.parametrize("name", VIOLATIONS)
async def test_planted_violation_is_found(database: Database, name: str) -> None:
    row = await database.fetch_one(
        "SELECT name AS month FROM steps_partitions ORDER BY end_task DESC"
    )
    assert row is not None
    for statement in VIOLATIONS[name].replace("{month}", row["month"]).split("; "):
        await database.fetch(statement)

    assert (await broken(database))[name] > 0


@pytest.mark.parametrize("name", ["gap", "epoch_fell"])
async def test_journals_of_running_tasks_are_looked_at_without_deep(
    database: Database, name: str
) -> None:
    await database.fetch(VIOLATIONS[name])

    assert await broken(database, is_deep=False) == {name: 1}


async def test_violation_says_which_task_and_what_to_do(database: Database) -> None:
    await database.fetch(VIOLATIONS["gap"])

    found = await invariants.check(
        database, lease=timedelta(seconds=10), max_claims=5, is_deep=True
    )
    (finding,) = (f for f in found if f.invariant.name == "gap")
    assert "running: 2 steps, the last is 3" in finding.examples
    assert finding.violations == 4
    assert finding.invariant.remedy


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=list(MOMENTS))
async def test_the_journal_has_a_partition_for_each_month_whatever_the_date(
    database_url: str, moment: datetime
) -> None:
    database = Database(DatabaseOptions(url=await as_of(database_url, moment), pool_size=2))
    await database.open()
    await retention.begin_month(database)
    assert await broken(database, is_deep=False) == {}
    await as_of(database_url, next_month(moment) + timedelta(hours=23))
    assert await broken(database, is_deep=False) == {}
    await as_of(database_url, next_month(moment) + timedelta(hours=25))
    assert await broken(database, is_deep=False) == {"month_not_begun": 1}
    assert await retention.begin_month(database)
    assert await broken(database, is_deep=False) == {}
    await database.close()


def next_month(moment: datetime) -> datetime:
    first = moment.replace(day=1, hour=0, minute=0, second=0)
    return (first + timedelta(days=32)).replace(day=1)


async def test_a_task_that_keeps_its_place_is_not_overdue_when_its_worker_dies(
    database: Database,
) -> None:
    await database.fetch(f"UPDATE tasks SET run_at = {LATE} WHERE task_id = 'running'")
    owners = await database.fetch(
        "SELECT DISTINCT w.name FROM tasks t JOIN workers w ON w.id = t.owner"
    )
    await workers.register(database, owners[0]["name"])
    await database.fetch("UPDATE workers SET room = 5")
    ((ready,),) = await database.fetch(
        f"SELECT count(*) FROM tasks WHERE status = 'ready' AND run_at <= {LATE}"
    )
    assert ready == 1
    assert await broken(database, is_deep=False) == {}


async def test_the_worker_that_keeps_house_measures_invariants(database: Database) -> None:
    await database.fetch(VIOLATIONS["overdue"])
    worker = await workers.register(database, "house")

    options = EngineOptions(worker_name="house")

    assert await Housekeeping(database, options, worker=lambda: worker).run_once()

    (metric,) = INVARIANT_VIOLATIONS.collect()
    samples = {s.labels["invariant"]: s.value for s in metric.samples}
    INVARIANT_VIOLATIONS.clear()
    assert samples["overdue"] == 1
    assert samples["gap"] == 0
