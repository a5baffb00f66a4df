"""What hangs ends with its task's deadline, within a second of it."""

from datetime import datetime, timedelta

from orchestrator.domain.step import Failed
from orchestrator.store.database import Database
from tests.fakes.bus import until
from tests.fakes.scripted_caller import Gate, ScriptedCaller
from tests.fakes.scripted_planner import Hanging, ScriptedPlanner, delegate
from tests.fakes.workers import Feed, bodies, reaches, running_worker, soon


async def lateness(database: Database, deadline: datetime) -> timedelta:
    """With which the task failed after its own."""
    row = await reaches(database, "t", "failed")
    late: timedelta = row["finished_at"] - deadline
    return late


async def test_call_that_hangs_ends_with_the_deadline_and_nothing_is_held(
    database: Database, feed: Feed
) -> None:
    gate, planner = Gate(), ScriptedPlanner(delegate("crm"))
    caller = ScriptedCaller(crm=gate)
    deadline = soon()
    async with running_worker(database, planner=planner, caller=caller) as worker:
        await feed.task("t", deadline=deadline, to=worker)
        await until(lambda: caller.under_way == 1)
        assert await lateness(database, deadline) < timedelta(seconds=1)
        await until(lambda: (worker.running, caller.under_way) == (0, 0), seconds=1)
    last = (await bodies(database, "t"))[-1]
    assert isinstance(last, Failed)
    assert (last.code, last.unknown) == ("deadline", ("t/2/1",))


async def test_model_that_hangs_ends_with_the_deadline(database: Database, feed: Feed) -> None:
    model = Hanging()
    deadline = soon()
    async with running_worker(
        database, planner=ScriptedPlanner(model), caller=ScriptedCaller()
    ) as worker:
        await feed.task("t", deadline=deadline, to=worker)
        assert await lateness(database, deadline) < timedelta(seconds=1)
        assert model.is_cut.is_set()
        await until(lambda: worker.running == 0, seconds=1)
