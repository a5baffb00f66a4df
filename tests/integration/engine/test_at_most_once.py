"""An agent whose effects can't be repeated: at the slightest doubt it is asked, never called."""

from dataclasses import replace
from datetime import timedelta

import pytest

from orchestrator.domain.call import CallResult
from orchestrator.domain.ids import TaskId
from orchestrator.domain.step import CallFinished
from orchestrator.store import operations
from orchestrator.store.database import Database
from tests.fakes.bus import until
from tests.fakes.scripted_caller import (
    ACCEPTED,
    AGENTS,
    Gate,
    ScriptedCaller,
    failure,
    says,
    success,
)
from tests.fakes.scripted_planner import ScriptedPlanner, complete, delegate
from tests.fakes.workers import (
    Feed,
    bodies,
    kinds,
    reaches,
    running_worker,
    soon,
    start_worker,
    task_row,
)

KEY = "t/2/1"
MAIL = AGENTS[-1]
BEGUN = ["accepted", "decision", "call_started"]


async def a_worker_that_died_during_the_call(
    database: Database, feed: Feed, planner: ScriptedPlanner
) -> ScriptedCaller:
    """The agent has the call; what became of it is in nobody's journal."""
    gate = Gate()
    caller = ScriptedCaller(mail=gate)
    first = await start_worker(database, planner=planner, caller=caller)
    await feed.task("t", to=first.worker)
    await gate.entered.wait()
    assert await kinds(database, "t") == BEGUN
    await first.kill()
    return caller


async def until_reason(database: Database, text: str) -> None:
    """The task waits, and says this of it."""

    async def waits() -> bool:
        row = await task_row(database, "t")
        return row["status"] == "waiting" and text in str(row["reason"])

    await until(waits, what=text)


async def test_at_most_once_agent_is_never_called_again(database: Database, feed: Feed) -> None:
    planner = ScriptedPlanner(delegate("mail"), complete())
    caller = await a_worker_that_died_during_the_call(database, feed, planner)
    caller.statuses[KEY] = success(sent="yes")
    async with running_worker(database, planner=planner, caller=caller):
        row = await reaches(database, "t", "completed")
    assert row["context"]["collected_data"] == {"sent": "yes"}
    assert (caller.sends[KEY], caller.asked[KEY]) == (1, 1)


async def test_what_was_declared_at_the_call_counts_whatever_is_declared_later(
    database: Database, feed: Feed
) -> None:
    planner = ScriptedPlanner(delegate("mail"), complete())
    caller = await a_worker_that_died_during_the_call(database, feed, planner)
    caller.statuses[KEY] = success(sent="yes")
    now = [replace(MAIL, effects="idempotent")]
    async with running_worker(database, planner=planner, caller=caller, agents=now):
        row = await reaches(database, "t", "completed")
    assert row["context"]["collected_data"] == {"sent": "yes"}
    assert (caller.sends[KEY], caller.asked[KEY]) == (1, 1)


async def test_call_whose_agent_is_gone_waits_for_a_person(database: Database, feed: Feed) -> None:
    planner = ScriptedPlanner(delegate("mail"), complete())
    caller = await a_worker_that_died_during_the_call(database, feed, planner)
    async with running_worker(database, planner=planner, caller=caller, agents=()) as worker:
        row = await reaches(database, "t", "waiting")
        assert row["reason"].startswith("a person: whether call 2/1 of agent 'mail' took effect")
        assert "(there is no agent 'mail' any more)" in row["reason"]
        await feed.event("t", "agent_result", step=2, call=1, to=worker)
        await reaches(database, "t", "completed")
    assert caller.sends == {KEY: 1}


@pytest.mark.parametrize("known", [success(sent="yes"), None], ids=["known", "unknown"])
async def test_a_later_answer_that_never_came_is_asked_for_and_the_call_not_repeated(
    database: Database, feed: Feed, known: CallResult | None
) -> None:
    planner, caller = ScriptedPlanner(delegate("mail"), complete()), ScriptedCaller()
    caller.behaviours["mail"], caller.statuses[KEY] = says(ACCEPTED), known
    soon_over = timedelta(seconds=0.2)
    async with running_worker(
        database, planner=planner, caller=caller, async_result_timeout=soon_over
    ) as worker:
        await feed.task("t", to=worker)
        if known is None:
            await until_reason(database, "a person: whether call 2/1 of agent 'mail' took effect")
            payload = {"status": "success", "output": {"sent": "yes"}}
            await feed.event("t", "agent_result", step=2, call=1, payload=payload, to=worker)
        row = await reaches(database, "t", "completed")
    assert row["context"]["collected_data"] == {"sent": "yes"}
    assert (caller.sends, caller.asked) == ({KEY: 1}, {KEY: 1})


@pytest.mark.parametrize("known", [None, failure("not sure")], ids=["unknown", "undecided"])
async def test_call_that_nobody_knows_of_waits_for_a_person(
    database: Database, feed: Feed, known: CallResult | None
) -> None:
    planner = ScriptedPlanner(delegate("mail"), complete())
    caller = await a_worker_that_died_during_the_call(database, feed, planner)
    caller.statuses[KEY] = known
    async with running_worker(database, planner=planner, caller=caller) as worker:
        row = await reaches(database, "t", "waiting")
        assert row["reason"].startswith("a person: whether call 2/1 of agent 'mail' took effect")
        answer = {"status": "success", "output": {"sent": "yes"}, "by": "ops", "reason": "asked"}
        await feed.event("t", "agent_result", step=2, call=1, payload=answer, to=worker)
        row = await reaches(database, "t", "completed")
    assert row["context"]["collected_data"] == {"sent": "yes"}
    assert caller.sends == {KEY: 1}
    (settled,) = [b for b in await bodies(database, "t") if "(says: ops)" in getattr(b, "by", "")]
    assert isinstance(settled, CallFinished)
    assert settled.reason == "asked"


async def test_agent_that_does_not_say_yet_is_asked_until_it_does_and_the_journal_does_not_grow(
    database: Database, feed: Feed
) -> None:
    planner = ScriptedPlanner(delegate("mail"), complete())
    caller = await a_worker_that_died_during_the_call(database, feed, planner)
    caller.statuses[KEY] = failure("answered HTTP 500")
    async with running_worker(database, planner=planner, caller=caller):
        await until(lambda: caller.asked[KEY] > 4)
    asked = caller.asked[KEY]
    steps = await kinds(database, "t")
    assert steps in ([*BEGUN, "result"], [*BEGUN, "result", "waiting"])
    async with running_worker(database, planner=planner, caller=caller):
        await until(lambda: caller.asked[KEY] > asked)
        caller.statuses[KEY] = success(sent="yes")
        row = await reaches(database, "t", "completed")
    assert row["context"]["collected_data"] == {"sent": "yes"}
    assert await kinds(database, "t") == [*steps, "result", "decision", "completed"]
    assert caller.sends == {KEY: 1}


async def test_agent_that_does_not_know_the_call_in_the_end_is_asked_no_more(
    database: Database, feed: Feed
) -> None:
    planner = ScriptedPlanner(delegate("mail"), complete())
    caller = await a_worker_that_died_during_the_call(database, feed, planner)
    caller.statuses[KEY] = failure("answered HTTP 500")
    async with running_worker(database, planner=planner, caller=caller) as worker:
        await until(lambda: caller.asked[KEY] > 2)
        caller.statuses[KEY] = None
        await until_reason(database, "(it does not know the call)")
        asked = caller.asked[KEY]
        await feed.event("t", to=worker)
        await until(lambda: worker.running == 0)
        row = await task_row(database, "t")
    assert caller.asked[KEY] == asked
    assert row["run_at"] - row["created_at"] > timedelta(days=6)


async def test_call_that_surely_was_not_sent_is_tried_again(database: Database, feed: Feed) -> None:
    planner = ScriptedPlanner(delegate("mail"), complete())
    caller = ScriptedCaller(mail=says(failure("busy", was_sent=False), success()))
    async with running_worker(database, planner=planner, caller=caller) as worker:
        await feed.task("t", to=worker)
        await reaches(database, "t", "completed")
    assert (caller.sends[KEY], caller.asked[KEY]) == (2, 0)
    assert (await kinds(database, "t")).count("call_started") == 2


async def test_call_that_may_have_been_sent_is_asked_about_and_not_repeated(
    database: Database, feed: Feed
) -> None:
    planner = ScriptedPlanner(delegate("mail"), complete())
    caller = ScriptedCaller(mail=says(failure("the connection broke")))
    caller.statuses[KEY] = success(sent="yes")
    async with running_worker(database, planner=planner, caller=caller) as worker:
        await feed.task("t", to=worker)
        row = await reaches(database, "t", "completed")
    assert row["context"]["collected_data"] == {"sent": "yes"}
    assert (caller.sends[KEY], caller.asked[KEY]) == (1, 1)


async def test_calls_beside_it_are_made_again_as_ever(database: Database, feed: Feed) -> None:
    gate, planner = Gate(), ScriptedPlanner(delegate("crm", "mail"), complete())
    caller = ScriptedCaller(crm=gate, mail=gate)
    first = await start_worker(database, planner=planner, caller=caller)
    await feed.task("t", to=first.worker)
    await until(lambda: caller.under_way == 2, seconds=5)
    await first.kill()
    caller.statuses["t/2/2"] = success(sent="yes")
    gate.opened.set()
    async with running_worker(database, planner=planner, caller=caller):
        await reaches(database, "t", "completed")
    assert caller.sends == {"t/2/1": 2, "t/2/2": 1}


async def test_call_that_was_cut_is_asked_about_after_a_retry_and_never_repeated(
    database: Database, feed: Feed
) -> None:
    planner, caller = ScriptedPlanner(delegate("mail"), complete()), ScriptedCaller(mail=Gate())
    deadline = soon()
    async with running_worker(database, planner=planner, caller=caller) as worker:
        await feed.task("t", deadline=deadline, to=worker)
        await reaches(database, "t", "failed")
        caller.statuses[KEY] = success(sent="yes")
        await database.fetch("UPDATE tasks SET deadline = NULL")
        await operations.retry(database, TaskId("t"))
        worker.wake()
        row = await reaches(database, "t", "completed")
    assert row["context"]["collected_data"] == {"sent": "yes"}
    assert (caller.sends[KEY], caller.asked[KEY]) == (1, 1)
