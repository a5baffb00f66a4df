"""A task uses no more than its budget, also after a restart, and waits for more if it says so."""

from dataclasses import replace
from functools import partial

from orchestrator.domain.budget import Budget
from orchestrator.domain.compensation import Compensation
from orchestrator.domain.decision import Delegate, Turn, Usage
from orchestrator.domain.errors import ModelFailed
from orchestrator.domain.fault import Fault
from orchestrator.domain.ids import AgentId, TaskId
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.step import CallFinished, Failed
from orchestrator.engine.options import TaskLimits
from orchestrator.planners.planner import OverBudget, Unanswered
from orchestrator.store.control import Message, Selection, tell
from orchestrator.store.database import Database
from tests.fakes.bus import until
from tests.fakes.scripted_caller import Gate, ScriptedCaller, agent, says, success
from tests.fakes.scripted_planner import ScriptedPlanner, complete, delegate
from tests.fakes.workers import (
    Feed,
    bodies,
    kinds,
    reaches,
    running_worker,
    start_worker,
    task_row,
)

DEAR = (agent("crm", cost=0.06), agent("mail", cost=0.06), agent("billing"))
PATIENT = Budget(cost_micros=100_000, when_exhausted="wait")


async def test_calls_side_by_side_do_not_overshoot_a_budget(database: Database, feed: Feed) -> None:
    planner, caller = ScriptedPlanner(delegate("crm", "mail", "billing")), ScriptedCaller()
    async with running_worker(database, planner=planner, caller=caller, agents=DEAR) as worker:
        await feed.task("t", to=worker, budget=Budget(cost_micros=100_000))
        row = await reaches(database, "t", "failed")
    assert row["reason"] == "the next call may cost 0.06; 0.06 spent, the budget is 0.10"
    assert set(caller.sends) == {"t/2/1", "t/2/3"}
    assert row["cost_micros"] == 60_000


async def test_an_exhausted_budget_waits_for_a_top_up(database: Database, feed: Feed) -> None:
    planner, caller = ScriptedPlanner(delegate("crm", "mail"), complete()), ScriptedCaller()
    async with running_worker(database, planner=planner, caller=caller, agents=DEAR) as worker:
        await feed.task("t", to=worker, budget=PATIENT)
        waiting = await reaches(database, "t", "waiting")
        assert waiting["reason"].startswith("a top-up: the next call may cost 0.06")
        await feed.event("t", "top_up", payload={"budget": {"cost": 0.1}}, to=worker)
        row = await reaches(database, "t", "completed")
    assert (row["cost_micros"], caller.sends) == (120_000, {"t/2/1": 1, "t/2/2": 1})
    assert row["context"]["event_data"] == {}


async def test_a_person_tops_a_budget_up(database: Database, feed: Feed) -> None:
    over = OverBudget("tokens", needed=900, left=100)
    async with running_worker(
        database, planner=ScriptedPlanner(over, complete()), caller=ScriptedCaller()
    ) as worker:
        await feed.task("t", to=worker, budget=Budget(tokens=100, when_exhausted="wait"))
        await reaches(database, "t", "waiting")
        more = Message(event_type="top_up", payload={"budget": {"tokens": 900}})
        await tell(database, more, Selection(task_ids=(TaskId("t"),)))
        await reaches(database, "t", "completed")
    assert await kinds(database, "t") == [
        *("accepted", "budget_spent", "waiting", "event", "decision", "completed")
    ]


async def test_no_message_lifts_a_budget_over_the_ceiling_and_a_command_does(
    database: Database, feed: Feed
) -> None:
    planner = ScriptedPlanner(*[turn_of_60] * 3, complete())
    limits = TaskLimits(max_tokens=50, ceilings=Budget(tokens=100))
    wants = Budget(tokens=10**9, when_exhausted="wait")
    more = Message(event_type="top_up", payload={"budget": {"tokens": 900}})
    async with running_worker(
        database, planner=planner, caller=ScriptedCaller(), limits=limits
    ) as worker:
        await feed.task("t", to=worker, budget=wants)
        told = "a top-up by `orchestrator tasks top-up` (messages can't raise tokens further): "
        row = await reaches(database, "t", "waiting")
        assert row["reason"] == f"{told}120 tokens used, the budget is 100"
        await feed.event("t", "top_up", payload={**more.payload, "by": "cli"}, to=worker)
        await until(lambda: _has_events(database, 1))
        assert (await task_row(database, "t"))["tokens"] == 120
        await tell(database, more, Selection(task_ids=(TaskId("t"),)))
        await reaches(database, "t", "completed")


async def _has_events(database: Database, number: int) -> bool:
    found = await kinds(database, "t")
    return found.count("event") == number and found[-1] == "waiting"


async def turn_of_60(_: Snapshot) -> Turn:
    return Turn(decision=Delegate(), usage=Usage(input_tokens=60), cost_micros=60)


async def test_what_was_used_outlives_a_worker(database: Database, feed: Feed) -> None:
    """And what is set aside for a call that was under way: the other one must not go out."""
    gate, planner = Gate(success()), ScriptedPlanner(delegate("crm", "mail"), complete())
    caller = ScriptedCaller(crm=gate)
    first = await start_worker(database, planner=planner, caller=caller, agents=DEAR)
    await feed.task("t", to=first.worker, budget=PATIENT)
    await gate.entered.wait()
    await first.kill()
    gate.opened.set()
    async with running_worker(database, planner=planner, caller=caller, agents=DEAR):
        row = await reaches(database, "t", "waiting")
    assert row["reason"].startswith("a top-up")
    assert caller.sends == {"t/2/1": 2}


async def test_a_call_under_way_at_a_crash_is_made_again_and_undone_though_another_cost_more(
    database: Database, feed: Feed
) -> None:
    undo = Compensation(agent=AgentId("undo"))
    dear = [agent(name, cost=0.05, compensation=undo) for name in ("crm", "mail")]
    agents = (*dear, agent("undo"))
    gate, planner = Gate(), ScriptedPlanner(delegate("crm", "mail"))
    said = replace(success(), usage={"cost": 0.09})
    caller = ScriptedCaller(crm=says(said), mail=gate)
    first = await start_worker(database, planner=planner, caller=caller, agents=agents)
    await feed.task("t", to=first.worker, budget=Budget(cost_micros=100_000))
    await gate.entered.wait()

    async def is_charged() -> bool:
        return "result" in await kinds(database, "t")

    await until(is_charged)
    await first.kill()
    gate.opened.set()
    async with running_worker(database, planner=planner, caller=caller, agents=agents):
        row = await reaches(database, "t", "failed")
    end = (await bodies(database, "t"))[-1]
    assert isinstance(end, Failed)
    assert (row["reason"], end.unknown) == ("0.14 spent, the budget is 0.10", ())
    assert caller.sends["t/2/2"] == 2
    assert sorted((c.agent, c.is_undone) for c in end.compensated) == [
        ("crm", True),
        ("mail", True),
    ]


async def test_the_planner_is_told_what_is_left(database: Database, feed: Feed) -> None:
    planner = ScriptedPlanner(turn_of_60, turn_of_60, complete())
    async with running_worker(database, planner=planner, caller=ScriptedCaller()) as worker:
        await feed.task("t", to=worker, budget=Budget(tokens=200, cost_micros=500))
        await reaches(database, "t", "completed")
    left = [(s.allowance.tokens, s.allowance.cost_micros) for s in planner.snapshots["t"]]
    assert left == [(200, 500), (140, 440), (80, 380)]
    row = await task_row(database, "t")
    assert (row["tokens"], row["cost_micros"]) == (120, 120)


async def test_a_turn_whose_answer_got_lost_is_charged(database: Database, feed: Feed) -> None:
    failed = ModelFailed("no answer within 60 seconds", retryable=True, fault=Fault.FAILED)
    lost = Unanswered(failed, usage=Usage(input_tokens=50, output_tokens=50), cost_micros=70)
    planner = ScriptedPlanner(lost, complete())
    async with running_worker(database, planner=planner, caller=ScriptedCaller()) as worker:
        await feed.task("t", to=worker, budget=Budget(tokens=200, cost_micros=500))
        await reaches(database, "t", "completed")
    left = [(s.allowance.tokens, s.allowance.cost_micros) for s in planner.snapshots["t"]]
    assert left == [(200, 500), (100, 430)]
    row = await task_row(database, "t")
    assert (row["tokens"], row["cost_micros"]) == (100, 70)


async def test_an_agent_that_says_its_cost_is_charged_with_it(
    database: Database, feed: Feed
) -> None:
    said = replace(success(), usage={"cost": 0.5})
    caller = ScriptedCaller(crm=says(said))
    planner = ScriptedPlanner(delegate("crm", "mail"), complete())
    async with running_worker(database, planner=planner, caller=caller, agents=DEAR) as worker:
        await feed.task("t", to=worker)
        row = await reaches(database, "t", "completed")
    charged = [b.cost_micros for b in await bodies(database, "t") if isinstance(b, CallFinished)]
    assert (sorted(charged), row["cost_micros"]) == ([60_000, 500_000], 560_000)


async def test_a_top_up_of_time_counts_while_a_call_is_under_way(
    database: Database, feed: Feed
) -> None:
    gate = Gate()
    caller, planner = ScriptedCaller(crm=gate), ScriptedPlanner(delegate("crm"), complete())
    async with running_worker(database, planner=planner, caller=caller) as worker:
        await feed.task("t", to=worker, budget=Budget(seconds=3))
        await gate.entered.wait()
        await feed.event("t", "top_up", payload={"budget": {"seconds": 600}}, to=worker)
        await until(partial(first_budget_is_over, database))
        gate.opened.set()
        await reaches(database, "t", "completed")


async def first_budget_is_over(database: Database) -> bool:
    sql = "SELECT now() > created_at + interval '3.1 s' AS is_over FROM tasks"
    (row,) = await database.fetch(sql)
    return bool(row["is_over"])


async def test_a_top_up_of_steps_that_came_in_time_counts_though_nobody_was_told(
    database: Database, feed: Feed
) -> None:
    gate = Gate()
    caller, planner = ScriptedCaller(crm=gate), ScriptedPlanner(delegate("crm"), complete())
    async with running_worker(database, planner=planner, caller=caller) as worker:
        await feed.task("t", to=worker, budget=Budget(steps=3))  # accepted, decision, result
        await gate.entered.wait()
        await feed.event("t", "top_up", payload={"budget": {"steps": 100}})
        gate.opened.set()
        await reaches(database, "t", "completed")
