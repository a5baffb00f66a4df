"""What people and agents may do to a running task, and where a task's limits end it."""

from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.domain.budget import Budget
from orchestrator.domain.decision import Delegate, Turn, Usage, Wait
from orchestrator.domain.errors import ModelFailed
from orchestrator.domain.ids import TaskId
from orchestrator.domain.json import JsonObject
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.step import AttemptFailed, CallFinished, Failed
from orchestrator.engine.options import TaskLimits
from orchestrator.store import operations
from orchestrator.store.database import Database
from tests.fakes.scripted_caller import ACCEPTED, Gate, ScriptedCaller, failure, says, success
from tests.fakes.scripted_planner import ScriptedPlanner, complete, delegate
from tests.fakes.workers import Feed, bodies, cancel, context_of, kinds, reaches, running_worker

TASK = TaskId("t")
WAITS = Wait(waiting_for="more")
LATE_ANSWER: JsonObject = {"status": "success", "output": {"customer_id": "c-9", "more": 1}}


async def test_waiting_task_is_cancelled_by_an_event(database: Database, feed: Feed) -> None:
    planner = ScriptedPlanner(WAITS)
    async with running_worker(database, planner=planner, caller=ScriptedCaller()) as worker:
        await feed.task("t", to=worker)
        await reaches(database, "t", "waiting")
        await feed.event("t", "cancel", payload={"reason": "not needed"}, to=worker)
        row = await reaches(database, "t", "cancelled")
    assert row["reason"] == "not needed"
    assert (await kinds(database, "t"))[-2:] == ["event", "cancelled"]


async def test_running_task_is_cancelled_when_its_calls_are_back(
    database: Database, feed: Feed
) -> None:
    gate, planner = Gate(), ScriptedPlanner(delegate("crm"), delegate("crm"))
    async with running_worker(database, planner=planner, caller=ScriptedCaller(crm=gate)) as worker:
        await feed.task("t", to=worker)
        await gate.entered.wait()
        await cancel(database, TASK, reason="by hand")
        gate.opened.set()
        row = await reaches(database, "t", "cancelled")
    assert row["reason"] == "by hand"
    assert "result" in await kinds(database, "t")


async def test_paused_task_does_nothing_until_it_is_resumed(database: Database, feed: Feed) -> None:
    planner = ScriptedPlanner(WAITS, complete())
    async with running_worker(database, planner=planner, caller=ScriptedCaller()) as worker:
        await feed.task("t", to=worker)
        await reaches(database, "t", "waiting")
        await feed.send([feed.new_event("t", "pause"), feed.new_event("t")], to=worker)
        row = await reaches(database, "t", "waiting")
        assert row["reason"] == "a resume event (paused)"
        assert len(planner.asks) == 1
        await feed.event("t", "resume", to=worker)
        await reaches(database, "t", "completed")


async def test_agent_that_accepted_a_call_answers_later_with_an_event(
    database: Database, feed: Feed
) -> None:
    planner, caller = (
        ScriptedPlanner(delegate("crm"), complete()),
        ScriptedCaller(crm=says(ACCEPTED)),
    )
    async with running_worker(database, planner=planner, caller=caller) as worker:
        await feed.task("t", to=worker)
        row = await reaches(database, "t", "waiting")
        assert row["reason"] == "a later answer of crm"
        await feed.event("t", "agent_result", step=2, call=1, payload=LATE_ANSWER, to=worker)
        row = await reaches(database, "t", "completed")
    assert row["context"]["collected_data"] == {"customer_id": "c-9"}
    assert caller.sends == {"t/2/1": 1}


async def test_second_answer_to_a_call_changes_nothing(database: Database, feed: Feed) -> None:
    planner = ScriptedPlanner(delegate("crm"), WAITS, WAITS)
    caller = ScriptedCaller(crm=says(success(customer_id="first")))
    async with running_worker(database, planner=planner, caller=caller) as worker:
        await feed.task("t", to=worker)
        await reaches(database, "t", "waiting")
        await feed.event("t", "agent_result", step=2, call=1, payload=LATE_ANSWER, to=worker)
        await reaches(database, "t", "waiting")
    assert (await context_of(database, "t"))["collected_data"] == {"customer_id": "first"}
    assert len([b for b in await bodies(database, "t") if isinstance(b, CallFinished)]) == 1


async def test_later_answer_that_does_not_come_is_given_up(database: Database, feed: Feed) -> None:
    planner, caller = (
        ScriptedPlanner(delegate("crm"), complete()),
        ScriptedCaller(crm=says(ACCEPTED)),
    )
    timeout = timedelta(seconds=0.3)
    async with running_worker(
        database, planner=planner, caller=caller, async_result_timeout=timeout
    ) as worker:
        await feed.task("t", to=worker)
        await reaches(database, "t", "completed")
    results = [b for b in await bodies(database, "t") if isinstance(b, CallFinished)]
    assert [r.status for r in results] == ["accepted", "error"]
    assert results[-1].error == "no answer came within the time that it may take"


async def test_event_with_an_id_that_was_seen_changes_nothing(
    database: Database, feed: Feed
) -> None:
    planner = ScriptedPlanner(WAITS, WAITS, WAITS)
    async with running_worker(database, planner=planner, caller=ScriptedCaller()) as worker:
        await feed.task("t", to=worker)
        for n in (1, 2):
            await reaches(database, "t", "waiting")
            await feed.event("t", event_id="e-1", payload={"n": n}, to=worker)
        row = await reaches(database, "t", "waiting")
    assert row["context"]["event_data"] == {"n": 1}
    assert (await kinds(database, "t")).count("event") == 1


async def test_model_that_fails_is_asked_again_and_then_given_up(
    database: Database, feed: Feed
) -> None:
    down = ModelFailed("503", retryable=True)
    async with running_worker(
        database, planner=ScriptedPlanner(down, down, down), caller=ScriptedCaller()
    ) as worker:
        await feed.task("t", to=worker)
        await reaches(database, "t", "failed")
    found = await bodies(database, "t")
    assert [b.attempt for b in found if isinstance(b, AttemptFailed)] == [1, 2]
    assert found[-1] == Failed(code="attempts_spent", reason="the model failed: 503")


async def test_agent_that_keeps_failing_is_reported_to_the_planner(
    database: Database, feed: Feed
) -> None:
    planner, caller = (
        ScriptedPlanner(delegate("crm"), complete()),
        ScriptedCaller(crm=says(failure())),
    )
    async with running_worker(database, planner=planner, caller=caller) as worker:
        await feed.task("t", to=worker)
        await reaches(database, "t", "completed")
    seen = planner.snapshots["t"][-1].steps[-1].body
    assert isinstance(seen, CallFinished)
    assert (seen.status, seen.error, seen.attempt) == ("error", "busy", 3)
    assert caller.sends == {"t/2/1": 3}


async def test_agent_that_is_gone_is_an_error_for_the_planner(
    database: Database, feed: Feed
) -> None:
    planner, caller = ScriptedPlanner(delegate("gone"), complete()), ScriptedCaller()
    async with running_worker(database, planner=planner, caller=caller) as worker:
        await feed.task("t", to=worker)
        await reaches(database, "t", "completed")
    assert caller.sends == {}


async def endless(_: Snapshot) -> Turn:
    return Turn(decision=Delegate(), usage=Usage(input_tokens=40, output_tokens=10))


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (TaskLimits(max_steps=7), "7 steps, the limit is 7"),
        (TaskLimits(max_tokens=120), "150 tokens used, the budget is 120"),
    ],
    ids=["steps", "tokens"],
)
async def test_task_that_exceeds_a_limit_fails(
    database: Database, feed: Feed, limits: TaskLimits, reason: str
) -> None:
    planner = ScriptedPlanner(*[endless] * 50)
    async with running_worker(
        database, planner=planner, caller=ScriptedCaller(), limits=limits
    ) as worker:
        await feed.task("t", to=worker)
        row = await reaches(database, "t", "failed")
    assert row["reason"] == reason


async def test_a_tasks_own_budget_comes_before_the_services(database: Database, feed: Feed) -> None:
    planner = ScriptedPlanner(*[endless] * 50)
    async with running_worker(database, planner=planner, caller=ScriptedCaller()) as worker:
        await feed.task("t", to=worker, budget=Budget(tokens=60))
        row = await reaches(database, "t", "failed")
    assert row["reason"] == "100 tokens used, the budget is 60"
    assert row["tokens"] == 100


async def test_deadline_ends_a_task_that_waits(database: Database, feed: Feed) -> None:
    deadline = datetime.now(UTC) + timedelta(seconds=0.5)
    planner = ScriptedPlanner(WAITS)
    async with running_worker(database, planner=planner, caller=ScriptedCaller()) as worker:
        await feed.task("t", to=worker, deadline=deadline.isoformat())
        row = await reaches(database, "t", "failed")
    assert row["reason"].startswith("not done by its deadline")
    assert row["finished_at"] >= deadline


async def test_failed_task_goes_on_when_a_person_retries_it(database: Database, feed: Feed) -> None:
    planner = ScriptedPlanner(ModelFailed("no key", retryable=False), complete())
    async with running_worker(database, planner=planner, caller=ScriptedCaller()) as worker:
        await feed.task("t", to=worker)
        await reaches(database, "t", "failed")
        planner.script = (complete(),)
        await operations.retry(database, TASK)
        row = await reaches(database, "t", "completed")
    assert row["reason"] is None
