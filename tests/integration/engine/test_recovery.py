"""What a worker held goes on, and is never run by two."""

import asyncio
from collections import Counter
from datetime import timedelta

from orchestrator.agents.agent import CallRequest
from orchestrator.domain.call import CallResult
from orchestrator.domain.ids import TaskId
from orchestrator.store.database import Database
from tests.fakes.bus import until
from tests.fakes.scripted_caller import Gate, ScriptedCaller, success
from tests.fakes.scripted_planner import ScriptedPlanner, complete, delegate
from tests.fakes.workers import Feed, all_reach, bodies, reaches, running_worker, start_worker

LONG = timedelta(seconds=60)


async def test_restart_under_its_own_name_takes_its_tasks_back_at_once(
    database: Database, feed: Feed
) -> None:
    gate, planner = Gate(), ScriptedPlanner(delegate("crm"), complete())
    caller = ScriptedCaller(crm=gate)
    first = await start_worker(database, planner=planner, caller=caller, lease=LONG)
    await feed.task("t", to=first.worker)
    await gate.entered.wait()
    await first.kill()
    gate.opened.set()
    async with running_worker(database, planner=planner, caller=caller, lease=LONG):
        await reaches(database, "t", "completed", seconds=5)


async def test_tasks_of_a_dead_worker_go_on_elsewhere_after_the_lease(
    database: Database, feed: Feed
) -> None:
    gate, planner = Gate(), ScriptedPlanner(delegate("crm"), complete())
    caller = ScriptedCaller(crm=gate)
    first = await start_worker(database, planner=planner, caller=caller, worker_name="a")
    await feed.send([feed.new_task(f"t-{n}") for n in range(10)], to=first.worker)
    await until(lambda: caller.under_way == 10, seconds=5)
    await first.kill()
    gate.opened.set()
    async with running_worker(database, planner=planner, caller=caller, worker_name="b"):
        await all_reach(database, "completed", tasks=10)
    assert planner.repeated == {}
    assert set(caller.sends.values()) == {2}


async def test_tasks_of_a_living_worker_stay_with_it(database: Database, feed: Feed) -> None:
    gate, planner = Gate(), ScriptedPlanner(delegate("crm"), complete())
    caller = ScriptedCaller(crm=gate)
    async with (
        running_worker(database, planner=planner, caller=caller, worker_name="a") as first,
        running_worker(database, planner=planner, caller=caller, worker_name="b"),
    ):
        await feed.task("t", to=first)
        await gate.entered.wait()
        began = asyncio.get_running_loop().time()
        await until(lambda: asyncio.get_running_loop().time() > began + 2.5, seconds=5)
        gate.opened.set()
        await reaches(database, "t", "completed")
    assert caller.sends == {"t/2/1": 1}


async def test_parallel_calls_run_side_by_side(database: Database, feed: Feed) -> None:
    gate, planner = Gate(), ScriptedPlanner(delegate("crm", "billing", "crm"), complete())
    caller = ScriptedCaller(crm=gate, billing=gate)
    async with running_worker(database, planner=planner, caller=caller) as worker:
        await feed.task("t", to=worker)
        await until(lambda: caller.under_way == 3, seconds=5)
        gate.opened.set()
        await reaches(database, "t", "completed")


class Overlaps:
    """An agent that counts how many workers are at the same task."""

    def __init__(self) -> None:
        self.now: Counter[TaskId] = Counter()
        self.most: Counter[TaskId] = Counter()

    async def __call__(self, request: CallRequest, _time: int) -> CallResult:
        self.now[request.task_id] += 1
        self.most[request.task_id] = max(self.most[request.task_id], self.now[request.task_id])
        for _ in range(10):
            await asyncio.sleep(0)  # the others' turn
        self.now[request.task_id] -= 1
        return success()


async def test_one_runner_at_a_time_per_task(database: Database, feed: Feed) -> None:
    overlaps, planner = Overlaps(), ScriptedPlanner(*[delegate("crm")] * 4, complete())
    caller, names = ScriptedCaller(crm=overlaps), ("a", "b", "c")
    workers = [
        await start_worker(database, planner=planner, caller=caller, worker_name=name)
        for name in names
    ]
    await feed.send([feed.new_task(f"t-{n}") for n in range(20)])
    for n in range(20):
        await feed.event(f"t-{n}", to=workers[n % 3].worker)
    await all_reach(database, "completed", tasks=20)
    for worker in workers:
        await worker.stop()
    assert set(overlaps.most.values()) == {1}
    assert planner.repeated == {}
    assert all([len(await bodies(database, f"t-{n}")) >= 11 for n in range(20)])
