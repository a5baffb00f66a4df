"""What can't wait reaches a task during its calls and its model's turns: cancel, pause, the end."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from orchestrator.agents.agent import CallRequest
from orchestrator.domain.call import CallResult, CallStatus
from orchestrator.domain.decision import Delegate
from orchestrator.domain.ids import TaskId
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.step import CallFinished, Cancelled, StepBody
from orchestrator.engine import under_way
from orchestrator.store import loading, operations
from orchestrator.store.database import Database, Row
from orchestrator.store.journal import JOURNAL
from tests.fakes.bus import until
from tests.fakes.scripted_caller import (
    ACCEPTED,
    Gate,
    ScriptedCaller,
    agent,
    failure,
    says,
    success,
)
from tests.fakes.scripted_planner import Hanging, ScriptedPlanner, complete, delegate
from tests.fakes.workers import (
    Feed,
    Stalling,
    bodies,
    cancel,
    context_of,
    kinds,
    reaches,
    running_worker,
    soon,
    task_row,
)

TASK = TaskId("t")
KEY = "t/2/1"
SENT = "tasks/0/1"
"""Where the second message lay."""
ON_ORDER = {"reason": "ordered twice", "by": "sales"}


class Deaf(Gate):
    """An agent whose call does not let itself be cut."""

    async def __call__(self, request: CallRequest, time: int) -> CallResult:
        while True:
            try:
                return await super().__call__(request, time)
            except asyncio.CancelledError:
                continue


def results(steps: list[StepBody]) -> list[tuple[int, CallStatus]]:
    return [(b.call, b.status) for b in steps if isinstance(b, CallFinished)]


async def test_cancel_event_cuts_calls_under_way_within_a_second(
    database: Database, feed: Feed
) -> None:
    gate, planner = Gate(), ScriptedPlanner(delegate("crm", "billing"))
    caller = ScriptedCaller(crm=gate, billing=says(success(invoice_id="i-1")))
    async with running_worker(database, planner=planner, caller=caller) as worker:
        await feed.task("t", to=worker)
        await gate.entered.wait()
        await feed.event("t", "cancel", payload=ON_ORDER, to=worker)
        row = await reaches(database, "t", "cancelled", seconds=1)
        assert caller.under_way == 0
    assert row["reason"] == f"ordered twice ({SENT} (says: sales))"
    steps = await bodies(database, "t")
    assert results(steps) == [(2, CallStatus.SUCCESS), (1, CallStatus.UNKNOWN)]
    who = f"{SENT} (says: sales)"
    assert steps[-1] == Cancelled(reason="ordered twice", by=who, unknown=(KEY,))


async def test_cancel_by_hand_reaches_a_call_under_way_though_its_notice_was_lost(
    database: Database, feed: Feed
) -> None:
    gate, planner = Gate(), ScriptedPlanner(delegate("crm"))
    caller = ScriptedCaller(crm=gate)
    async with running_worker(
        database, planner=planner, caller=caller, poll=timedelta(seconds=0.5)
    ) as worker:
        await feed.task("t", to=worker)
        await gate.entered.wait()
        await cancel(database, TASK, reason="by hand")
        row = await reaches(database, "t", "cancelled", seconds=1.5)
    assert (row["reason"], caller.under_way) == ("by hand", 0)


async def test_cancel_cuts_a_turn_of_the_model(database: Database, feed: Feed) -> None:
    model = Hanging()
    async with running_worker(
        database, planner=ScriptedPlanner(model), caller=ScriptedCaller()
    ) as worker:
        await feed.task("t", to=worker)
        await model.asked.wait()
        await feed.event("t", "cancel", to=worker)
        await reaches(database, "t", "cancelled", seconds=1)
        assert model.is_cut.is_set()
    assert await kinds(database, "t") == ["accepted", "event", "cancelled"]


async def test_agent_that_accepted_is_told_of_the_cancel_if_it_wants_to_be(
    database: Database, feed: Feed
) -> None:
    known = (agent("asks", cancel_url="http://asks.invalid/cancel/{key}"), agent("silent"))
    caller = ScriptedCaller(asks=says(ACCEPTED), silent=says(ACCEPTED))
    async with running_worker(
        database,
        planner=ScriptedPlanner(delegate("asks", "silent")),
        caller=caller,
        agents=known,
    ) as worker:
        await feed.task("t", to=worker)
        await reaches(database, "t", "waiting")
        await feed.event("t", "cancel", to=worker)
        await reaches(database, "t", "cancelled")
    assert caller.cancelled == {KEY: 1}
    last = (await bodies(database, "t"))[-1]
    assert isinstance(last, Cancelled)
    assert last.unknown == (KEY, "t/2/2")


async def test_agent_that_does_not_listen_does_not_hold_the_cancel_up(
    database: Database, feed: Feed
) -> None:
    class Deaf(ScriptedCaller):
        async def cancel(self, request: CallRequest) -> bool:
            await super().cancel(request)
            await asyncio.Event().wait()
            raise AssertionError("it never ends")

    known = (agent("crm", cancel_url="http://crm.invalid/cancel"),)
    caller = Deaf(crm=says(ACCEPTED))
    async with running_worker(
        database, planner=ScriptedPlanner(delegate("crm")), caller=caller, agents=known
    ) as worker:
        await feed.task("t", to=worker)
        await reaches(database, "t", "waiting")
        await feed.event("t", "cancel", to=worker)
        await reaches(database, "t", "cancelled", seconds=2)
    assert caller.cancelled == {KEY: 1}


async def test_a_call_that_outlives_its_cut_adds_nothing_to_a_task_that_ended(
    database: Database, feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(under_way, "CUT_SECONDS", 0.05)
    deaf, planner = Deaf(), ScriptedPlanner(delegate("crm"))
    caller = ScriptedCaller(crm=deaf)
    async with running_worker(database, planner=planner, caller=caller) as worker:
        await feed.task("t", to=worker)
        await deaf.entered.wait()
        await feed.event("t", "cancel", to=worker)
        await reaches(database, "t", "cancelled")
        deaf.opened.set()
        await until(lambda: caller.under_way == 0)
    assert await kinds(database, "t") == [*("accepted", "decision", "event", "result", "cancelled")]


async def test_pause_lets_calls_end_and_starts_nothing_more(database: Database, feed: Feed) -> None:
    gate, planner = Gate(), ScriptedPlanner(delegate("crm"), complete())
    caller = ScriptedCaller(crm=gate)
    async with running_worker(database, planner=planner, caller=caller) as worker:
        await feed.task("t", to=worker)
        await gate.entered.wait()
        await feed.event("t", "pause", payload={"by": "ops", "reason": "audit"}, to=worker)
        paused = f"paused by {SENT} (says: ops): audit"
        await until(lambda: _shows(database, paused), seconds=1)
        assert caller.under_way == 1
        gate.opened.set()
        row = await reaches(database, "t", "waiting")
        assert (row["reason"], len(planner.asks)) == (f"a resume event ({paused})", 1)
        assert row["context"]["current_state"] == paused
        await feed.event("t", "resume", to=worker)
        await reaches(database, "t", "completed")
    assert caller.sends == {KEY: 1}


async def _shows(database: Database, state: str) -> bool:
    return bool((await task_row(database, "t"))["context"]["current_state"] == state)


async def test_pause_cuts_a_turn_of_the_model_which_is_asked_again_on_resume(
    database: Database, feed: Feed
) -> None:
    model = Hanging()
    planner = ScriptedPlanner(model)
    async with running_worker(database, planner=planner, caller=ScriptedCaller()) as worker:
        await feed.task("t", to=worker)
        await model.asked.wait()
        await feed.event("t", "pause", to=worker)
        await reaches(database, "t", "waiting", seconds=1)
        assert model.is_cut.is_set()
        planner.script = (complete(),)
        await feed.event("t", "resume", to=worker)
        await reaches(database, "t", "completed")


async def test_result_by_event_ends_the_call_that_is_under_way_and_no_other(
    database: Database, feed: Feed
) -> None:
    crm, billing = Gate(), Gate(success(invoice_id="i-1"))
    planner = ScriptedPlanner(delegate("crm", "billing"), complete())
    caller = ScriptedCaller(crm=crm, billing=billing)
    answer = {"status": "success", "output": {"customer_id": "by-event"}}
    async with running_worker(database, planner=planner, caller=caller) as worker:
        await feed.task("t", to=worker)
        await until(lambda: caller.under_way == 2, seconds=5)
        await feed.event("t", "agent_result", step=2, call=1, payload=answer, to=worker)
        await until(lambda: caller.under_way == 1, seconds=1)
        billing.opened.set()
        await reaches(database, "t", "completed")
    found = (await context_of(database, "t"))["collected_data"]
    assert found == {"customer_id": "by-event", "invoice_id": "i-1"}
    assert caller.sends == {KEY: 1, "t/2/2": 1}


class WritesLate(Stalling):
    """Once a runner has read its messages, nothing is written until `go_on`."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, only=JOURNAL)
        self.has_read = asyncio.Event()

    async def fetch(self, sql: str, *args: Any) -> Sequence[Row]:
        rows = await super().fetch(sql, *args)
        if sql == loading.UNREAD:
            self.stall()
            self.has_read.set()
        return rows


async def test_an_answer_that_comes_second_is_kept_and_changes_nothing(
    database: Database, feed: Feed
) -> None:
    gate = Gate(success(customer_id="by-agent"))
    planner = ScriptedPlanner(delegate("crm"), complete())
    answer = {"status": "success", "output": {"customer_id": "by-event"}}
    late = WritesLate(database)
    await late.open()
    async with running_worker(late, planner=planner, caller=ScriptedCaller(crm=gate)) as worker:
        await feed.task("t", to=worker)
        await gate.entered.wait()
        await feed.event("t", "agent_result", step=2, call=1, payload=answer, to=worker)
        await late.has_read.wait()
        gate.opened.set()
        await until(lambda: worker._journal.backlog > 0, seconds=5)
        late.go_on()
        await reaches(database, "t", "completed")
    await late.close()
    assert (await context_of(database, "t"))["collected_data"] == {"customer_id": "by-event"}
    assert results(await bodies(database, "t")) == [(1, CallStatus.SUCCESS)]
    assert "event" in await kinds(database, "t")


async def test_data_waits_until_the_calls_are_back(database: Database, feed: Feed) -> None:
    gate = Gate()
    planner = ScriptedPlanner(delegate("crm"), delegate("billing"), complete())
    async with running_worker(database, planner=planner, caller=ScriptedCaller(crm=gate)) as worker:
        await feed.task("t", to=worker)
        await gate.entered.wait()
        await feed.event("t", payload={"country": "DE"}, to=worker)
        worker.attend()
        await feed.task("other", to=worker)
        await reaches(database, "other", "running")
        assert await kinds(database, "t") == ["accepted", "decision"]
        gate.opened.set()
        await reaches(database, "t", "completed")
    assert (await context_of(database, "t"))["event_data"] == {"country": "DE"}


@pytest.mark.parametrize("ends_by", ["cancel", "deadline"])
async def test_at_most_once_call_that_was_cut_is_never_made_again(
    database: Database, feed: Feed, ends_by: str
) -> None:
    gate, planner = Gate(), ScriptedPlanner(delegate("mail"))
    caller = ScriptedCaller(mail=gate)
    deadline = soon() if ends_by == "deadline" else None
    async with running_worker(database, planner=planner, caller=caller) as worker:
        await feed.task("t", deadline=deadline, to=worker)
        await gate.entered.wait()
        if ends_by == "cancel":
            await feed.event("t", "cancel", to=worker)
        await reaches(database, "t", "cancelled" if ends_by == "cancel" else "failed")
    steps = await bodies(database, "t")
    assert results(steps) == [(1, CallStatus.UNKNOWN)]
    assert (caller.sends[KEY], caller.asked[KEY]) == (1, 0)


async def test_cancel_of_a_call_that_waits_for_a_person_says_what_is_unknown(
    database: Database, feed: Feed
) -> None:
    planner = ScriptedPlanner(delegate("mail"))
    caller = ScriptedCaller(mail=says(failure("the connection broke")))
    async with running_worker(database, planner=planner, caller=caller) as worker:
        await feed.task("t", to=worker)
        await reaches(database, "t", "waiting")
        await feed.event("t", "cancel", to=worker)
        await reaches(database, "t", "cancelled")
    last = (await bodies(database, "t"))[-1]
    assert isinstance(last, Cancelled)
    assert (last.unknown, caller.sends[KEY]) == ((KEY,), 1)


async def test_call_cut_by_a_limit_is_made_again_under_its_key_after_a_retry(
    database: Database, feed: Feed
) -> None:
    gate, planner = Gate(), ScriptedPlanner(delegate("crm"), complete())
    caller = ScriptedCaller(crm=gate)
    deadline = soon()
    async with running_worker(database, planner=planner, caller=caller) as worker:
        await feed.task("t", deadline=deadline, to=worker)
        await reaches(database, "t", "failed")
        await database.fetch("UPDATE tasks SET deadline = NULL")
        gate.opened.set()
        await operations.retry(database, TASK)
        worker.wake()
        await reaches(database, "t", "completed")
    assert caller.sends == {KEY: 2}


async def test_decision_that_a_cancel_overtook_says_that_its_calls_were_not_made(
    database: Database, feed: Feed
) -> None:
    async def decide_while_a_cancel_comes(_: Snapshot) -> Delegate:
        await feed.event("t", "cancel")
        return delegate("crm")

    caller = ScriptedCaller()
    async with running_worker(
        database,
        planner=ScriptedPlanner(decide_while_a_cancel_comes),
        caller=caller,
        poll=timedelta(seconds=30),
    ) as worker:
        await feed.task("t", to=worker)
        await reaches(database, "t", "cancelled")
    assert results(await bodies(database, "t")) == [(1, CallStatus.ERROR)]
    assert caller.sends == {}
