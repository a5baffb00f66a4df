"""A worker that looks which tasks are its own, while they go on."""

import asyncio

import pytest
from structlog.testing import capture_logs

from orchestrator.domain.decision import Decision
from orchestrator.domain.snapshot import Snapshot
from orchestrator.store.claims import OWNED
from orchestrator.store.database import Database
from orchestrator.store.journal import JOURNAL
from tests.fakes.bus import until
from tests.fakes.scripted_caller import Gate, ScriptedCaller
from tests.fakes.scripted_planner import ScriptedPlanner, complete, delegate
from tests.fakes.workers import Feed, Stalling, all_reach, running_worker, task_row


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


def thinks(until_told: asyncio.Event) -> ScriptedPlanner:
    async def turn(_: Snapshot) -> Decision:
        await until_told.wait()
        return complete()

    return ScriptedPlanner(turn)


@pytest.mark.parametrize("got_to", ["not even loaded", "begun", "decided meanwhile"])
async def test_claims_of_a_worker_that_stood_still_do_not_count(
    database: Database, feed: Feed, got_to: str
) -> None:
    """Else five freezes would set a task aside, as five deaths do."""
    stuck, decides, may_decide = Stalling(database), asyncio.Event(), asyncio.Event()
    planner = thinks(decides)
    await stuck.open()
    async with (
        running_worker(stuck, planner=planner, caller=ScriptedCaller()) as frozen,
        running_worker(
            database, planner=thinks(may_decide), caller=ScriptedCaller(), worker_name="other"
        ) as other,
    ):
        await feed.task("t", to=frozen)
        await until(lambda: bool(planner.asks) is (got_to != "not even loaded"))
        stuck.stall()
        await until(lambda: other.running == 1)
        assert (await task_row(database, "t"))["claims"] == 2
        if got_to == "decided meanwhile":
            decides.set()
            await until(lambda: JOURNAL in stuck.waiting)
        stuck.go_on()

        async def is_one() -> bool:
            return bool((await task_row(database, "t"))["claims"] == 1)

        await until(is_one, what="a claim that does not count")
        assert (await task_row(database, "t"))["owner"] == other.id
        may_decide.set()
    await stuck.close()
