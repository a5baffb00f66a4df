"""What hangs ends with its task's deadline, within a second of it."""

from datetime import datetime, timedelta

from orchestrator.domain.step import Failed
from orchestrator.store.database import Database
from tests.fakes.bus import until
from tests.fakes.scripted_caller import Gate, ScriptedCaller
from tests.fakes.scripted_planner import Hanging, ScriptedPlanner, delegate
from tests.fakes.workers import Feed, bodies, reaches, running_worker, soon


async def lateness_at_best(database: Database, deadlines: dict[str, datetime]) -> timedelta:
    """With which these tasks failed after theirs; the machine may stand still at one of them."""
    late: list[timedelta] = []
    for task_id, deadline in deadlines.items():
        row = await reaches(database, task_id, "failed")
        late.append(row["finished_at"] - deadline)
    return min(late)


async def test_call_that_hangs_ends_with_the_deadline_and_nothing_is_held(
    database: Database, feed: Feed
) -> None:
    gate, planner = Gate(), ScriptedPlanner(delegate("crm"))
    caller = ScriptedCaller(crm=gate)
    deadlines = {"t": soon(), "later": soon() + timedelta(seconds=1)}
    async with running_worker(database, planner=planner, caller=caller) as worker:
        for task_id, deadline in deadlines.items():
            await feed.task(task_id, deadline=deadline, to=worker)
        await until(lambda: caller.under_way == 2)
        assert await lateness_at_best(database, deadlines) < timedelta(seconds=1)
        await until(lambda: (worker.running, caller.under_way) == (0, 0), seconds=1)
    last = (await bodies(database, "t"))[-1]
    assert isinstance(last, Failed)
    assert (last.code, last.unknown) == ("deadline", ("t/2/1",))


async def test_model_that_hangs_ends_with_the_deadline(database: Database, feed: Feed) -> None:
    model = Hanging()
    deadlines = {"t": soon(), "later": soon() + timedelta(seconds=1)}
    async with running_worker(
        database, planner=ScriptedPlanner(model), caller=ScriptedCaller()
    ) as worker:
        for task_id, deadline in deadlines.items():
            await feed.task(task_id, deadline=deadline, to=worker)
        assert await lateness_at_best(database, deadlines) < timedelta(seconds=1)
        assert model.is_cut.is_set()
        await until(lambda: worker.running == 0, seconds=1)
