"""What the design promises of one task, whatever happens to its worker."""

from datetime import timedelta

from orchestrator.domain.context import Context
from orchestrator.domain.decision import Turn, Wait
from orchestrator.domain.ids import Seq
from orchestrator.domain.step import CallFinished, Completed, Failed
from orchestrator.store import history
from orchestrator.store.database import Database
from orchestrator.store.journal import JOURNAL
from orchestrator.store.workers import HEARTBEAT
from tests.fakes.bus import until
from tests.fakes.scripted_caller import Gate, ScriptedCaller, failure, says, success
from tests.fakes.scripted_planner import ScriptedPlanner, complete, delegate
from tests.fakes.workers import (
    Feed,
    Stalling,
    bodies,
    kinds,
    reaches,
    running_worker,
    start_worker,
    task_row,
)


async def test_journaled_decision_is_never_asked_for_again(database: Database, feed: Feed) -> None:
    gate, planner = Gate(), ScriptedPlanner(delegate("crm"), complete())
    caller = ScriptedCaller(crm=gate)
    first = await start_worker(database, planner=planner, caller=caller)
    await feed.task("t", to=first.worker)
    await gate.entered.wait()
    await first.kill()
    gate.opened.set()
    async with running_worker(database, planner=planner, caller=caller):
        await reaches(database, "t", "completed")
    assert planner.asks == {("t", 0): 1, ("t", 1): 1}


async def test_journaled_call_is_never_made_again(database: Database, feed: Feed) -> None:
    gate, planner = Gate(), ScriptedPlanner(delegate("crm", "billing"), complete())
    caller = ScriptedCaller(billing=gate)
    first = await start_worker(database, planner=planner, caller=caller)
    await feed.task("t", to=first.worker)

    async def is_journaled() -> bool:
        return "result" in await kinds(database, "t")

    await until(is_journaled, seconds=5)
    await first.kill()
    gate.opened.set()
    async with running_worker(database, planner=planner, caller=caller):
        await reaches(database, "t", "completed")
    assert caller.sends == {"t/2/1": 1, "t/2/2": 2}


async def test_call_under_way_when_its_worker_died_is_made_again_with_the_same_key(
    database: Database, feed: Feed
) -> None:
    gate, planner = Gate(), ScriptedPlanner(delegate("crm"), complete())
    caller = ScriptedCaller(crm=gate)
    first = await start_worker(database, planner=planner, caller=caller)
    await feed.task("t", to=first.worker)
    await gate.entered.wait()
    await first.kill()
    gate.opened.set()
    async with running_worker(database, planner=planner, caller=caller):
        await reaches(database, "t", "completed")
    assert (caller.sends, caller.effects) == ({"t/2/1": 2}, {"t/2/1": 1})
    before, after = caller.epochs["t/2/1"]
    assert before < after


async def test_retries_wait_in_postgresql_and_not_in_memory(database: Database, feed: Feed) -> None:
    planner = ScriptedPlanner(delegate("crm"), complete())
    caller = ScriptedCaller(crm=says(failure(retry_after_seconds=2), success()))
    first = await start_worker(database, planner=planner, caller=caller)
    await feed.task("t", to=first.worker)
    await reaches(database, "t", "waiting")
    await first.kill()
    async with running_worker(database, planner=planner, caller=caller, worker_name="other"):
        row = await reaches(database, "t", "completed")
    assert caller.sends == {"t/2/1": 2}
    assert row["finished_at"] - row["created_at"] > timedelta(seconds=2)


async def test_a_task_that_waits_for_a_retry_is_in_no_workers_memory(
    database: Database, feed: Feed
) -> None:
    planner = ScriptedPlanner(delegate("crm"), complete())
    busy = says(failure("come back", retry_after_seconds=600.0))
    async with running_worker(database, planner=planner, caller=ScriptedCaller(crm=busy)) as worker:
        await feed.task("t", to=worker)
        row = await reaches(database, "t", "waiting")
        await until(lambda: worker.running == 0, seconds=5)
    assert row["owner"] is None
    assert row["run_at"] - row["updated_at"] > timedelta(seconds=590)
    assert (await kinds(database, "t"))[-2:] == ["attempt_failed", "waiting"]


async def test_frozen_worker_that_comes_back_cannot_write(database: Database, feed: Feed) -> None:
    gates, frozen = {1: Gate(success(customer_id="first")), 2: Gate()}, Stalling(database)
    planner = ScriptedPlanner(delegate("crm"), complete(), by_task={"next": (complete(),)})
    caller = ScriptedCaller(crm=lambda request, time: gates[time](request, time))
    await frozen.open()
    async with (
        running_worker(frozen, planner=planner, caller=caller, worker_name="a") as first,
        running_worker(database, planner=planner, caller=caller, worker_name="b"),
    ):
        await feed.task("t", to=first)
        await gates[1].entered.wait()
        frozen.stall()
        await gates[2].entered.wait()
        gates[1].opened.set()
        frozen.go_on()
        await until(lambda: first.room() > 0, seconds=5)
        await feed.task("next", to=first)  # what it writes comes after all that it had to write
        await reaches(database, "next", "completed")
        assert await kinds(database, "t") == ["accepted", "decision"]
        gates[2].opened.set()
        await reaches(database, "t", "completed")
    await frozen.close()


async def test_decision_is_on_disk_before_its_calls_go_out(database: Database, feed: Feed) -> None:
    slow = Stalling(database, only=JOURNAL)
    planner, caller = ScriptedPlanner(delegate("crm"), complete()), ScriptedCaller()
    await slow.open()

    async def beats() -> bool:
        row = await database.fetch_one("SELECT max(heartbeat_at) AS at FROM workers")
        return row is not None and row["at"] > began

    async with running_worker(slow, planner=planner, caller=caller) as worker:
        slow.stall()
        await feed.task("t", to=worker)
        await until(lambda: bool(planner.asks), seconds=5)
        began = (await task_row(database, "t"))["created_at"] + timedelta(seconds=0.3)
        await until(beats, seconds=5)  # time enough for a call to slip out
        assert caller.sends == {}
        slow.go_on()
        await reaches(database, "t", "completed")
    await slow.close()


async def test_silent_worker_sends_nothing(database: Database, feed: Feed) -> None:
    gate, silent = Gate(), Stalling(database, only=HEARTBEAT)
    await silent.open()

    async def plan_until_the_lease_is_over(_: object) -> Turn:
        silent.stall()
        await until(lambda: not first.lease.is_held(), seconds=5)
        return Turn(decision=delegate("crm"))

    async def is_decided() -> bool:
        return "decision" in await kinds(database, "t")

    planner = ScriptedPlanner(plan_until_the_lease_is_over, complete())
    caller = ScriptedCaller(crm=gate)
    async with running_worker(silent, planner=planner, caller=caller) as first:
        await feed.task("t", to=first)
        await until(is_decided, seconds=5)
        assert not gate.entered.is_set()
        gate.opened.set()
        silent.go_on()
        await reaches(database, "t", "completed")
    await silent.close()


async def test_completed_task_has_all_its_required_fields(database: Database, feed: Feed) -> None:
    planner = ScriptedPlanner(complete({"customer_id": "said"}))
    async with running_worker(database, planner=planner, caller=ScriptedCaller()) as worker:
        await feed.task("t", required=["customer_id"], to=worker)
        await reaches(database, "t", "failed")
    last = (await bodies(database, "t"))[-1]
    assert isinstance(last, Failed)
    assert last.reason == "completed by the planner without customer_id"


async def test_task_with_all_required_fields_completes_without_asking(
    database: Database, feed: Feed
) -> None:
    planner = ScriptedPlanner(delegate("crm"))
    caller = ScriptedCaller(crm=says(success(customer_id="c-1", note="not asked for")))
    async with running_worker(database, planner=planner, caller=caller) as worker:
        await feed.task("t", required=["customer_id"], to=worker)
        await reaches(database, "t", "completed")
    last = (await bodies(database, "t"))[-1]
    assert last == Completed(result={"customer_id": "c-1"}, by="rule")
    assert planner.asks == {("t", 0): 1}


async def test_every_state_that_a_task_was_in_can_be_read_back(
    database: Database, feed: Feed
) -> None:
    planner = ScriptedPlanner(
        Turn(decision=delegate("crm"), state="looking", collected={"a": 1}),
        Wait(waiting_for="more"),
        complete(),
    )
    caller = ScriptedCaller(crm=says(success(customer_id="c-1")))
    async with running_worker(database, planner=planner, caller=caller) as worker:
        await feed.task("t", required=["a", "customer_id", "b"], to=worker)
        await reaches(database, "t", "waiting")
        await feed.event("t", payload={"c": 3}, to=worker)
        await reaches(database, "t", "failed")
    for seen in planner.snapshots["t"]:
        details = await history.show_task(database, seen.task.task_id, step=seen.seq)
        assert Context.from_json(details.context or {}) == seen.context
    assert len(planner.snapshots["t"]) == 3


async def test_the_stored_context_is_what_the_journal_adds_up_to(
    database: Database, feed: Feed
) -> None:
    caller = ScriptedCaller(crm=says(success(customer_id="c-1")))
    planner = ScriptedPlanner(delegate("crm"))
    async with running_worker(database, planner=planner, caller=caller) as worker:
        await feed.task("t", required=["customer_id"], to=worker)
        row = await reaches(database, "t", "completed")
    steps = await history.steps_of(database, row["task_id"])
    context = Context()
    for step in steps:
        context = context.apply(step.change)
    assert Context.from_json((await task_row(database, "t"))["context"]) == context
    assert steps[-1].seq == Seq(len(steps)) == row["seq"]


async def test_results_of_one_decision_are_each_journaled_once(
    database: Database, feed: Feed
) -> None:
    planner = ScriptedPlanner(delegate("crm", "billing", "crm"), complete())
    async with running_worker(database, planner=planner, caller=ScriptedCaller()) as worker:
        await feed.task("t", to=worker)
        await reaches(database, "t", "completed")
    results = [b for b in await bodies(database, "t") if isinstance(b, CallFinished)]
    assert sorted(b.call for b in results) == [1, 2, 3]
