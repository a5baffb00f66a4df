"""A worker that looks which tasks are its own, while they go on."""

import asyncio

from structlog.testing import capture_logs

from orchestrator.store.claims import OWNED
from orchestrator.store.database import Database
from tests.fakes.bus import until
from tests.fakes.scripted_caller import Gate, ScriptedCaller
from tests.fakes.scripted_planner import ScriptedPlanner, complete, delegate
from tests.fakes.workers import Feed, Stalling, all_reach, running_worker


async def test_a_task_that_ends_while_its_worker_looks_is_not_taken_for_lost(
    database: Database, feed: Feed
) -> None:
    gate, slow = Gate(), Stalling(database, only=OWNED)
    planner = ScriptedPlanner(delegate("crm"), complete())
    await slow.open()
    async with running_worker(slow, planner=planner, caller=ScriptedCaller(crm=gate)) as worker:
        await feed.task("t", to=worker)
        await gate.entered.wait()
        slow.stall()
        with capture_logs() as lines:
            looking = asyncio.create_task(worker.reconcile())
            gate.opened.set()
            await all_reach(database, "completed", tasks=1)
            await until(lambda: worker.running == 0)
            slow.go_on()
            await looking
    await slow.close()
    events = [line["event"] for line in lines]
    assert "task ended" in events
    assert "tasks have newer owners" not in events
