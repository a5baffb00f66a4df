"""Calls that can't go out wait in PostgreSQL: no try is spent, nothing said twice, nothing lost."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from orchestrator.agents.agent import CallRequest
from orchestrator.agents.breaker import BreakerOptions
from orchestrator.agents.target import TargetOptions
from orchestrator.agents.targets import Targets
from orchestrator.domain.agent import Agent, Limits
from orchestrator.domain.call import CallResult
from orchestrator.domain.decision import Turn
from orchestrator.domain.errors import ModelFailed
from orchestrator.domain.fault import Fault
from orchestrator.domain.retry import RetryPolicy
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.step import CallFinished, CallParked, CallStarted, Cancelled
from orchestrator.engine.worker import Worker
from orchestrator.planners.gated import GatedPlanner
from orchestrator.planners.planner import Planner
from orchestrator.store import targets as stored
from orchestrator.store.database import Database
from tests.fakes.bus import until
from tests.fakes.scripted_caller import (
    AGENTS,
    Gate,
    ScriptedCaller,
    agent,
    failure,
    says,
    success,
    takes,
)
from tests.fakes.scripted_planner import Answer, ScriptedPlanner, complete, delegate
from tests.fakes.workers import (
    Feed,
    all_reach,
    bodies,
    kinds,
    reaches,
    running_worker,
    start_worker,
    task_row,
)

QUICK = BreakerOptions(open_seconds=0.3, limited_seconds=0.1, max_limited_seconds=0.3)
REFUSED = failure("connection refused", fault=Fault.UNAVAILABLE, was_sent=False)
LIMITED = failure("429", fault=Fault.LIMITED)
CRM = "agent/default/crm"
MODEL = "model/openai:m"


def quick(**options: Any) -> Targets:
    return Targets(TargetOptions(breaker=QUICK, **options))


@asynccontextmanager
async def working(
    database: Database,
    caller: ScriptedCaller,
    *,
    planner: Planner | None = None,
    targets: Targets | None = None,
    agents: Sequence[Agent] = AGENTS,
    **options: Any,
) -> AsyncIterator[Worker]:
    async with running_worker(
        database,
        planner=planner or ScriptedPlanner(delegate("crm"), complete()),
        caller=caller,
        targets=targets or quick(),
        agents=agents,
        **options,
    ) as worker:
        yield worker


async def parked(database: Database, *, tasks: int, target: str = CRM) -> None:
    async def are_parked() -> bool:
        return await stored.parked(database, target) >= tasks

    await until(are_parked, seconds=20, what=f"{tasks} tasks parked for {target}")


class Outage:
    """An agent that refuses connections until it is back."""

    def __init__(self) -> None:
        self.is_over = False
        self.refused = 0

    async def __call__(self, _request: CallRequest, _time: int) -> CallResult:
        if self.is_over:
            return success(customer_id="C")
        self.refused += 1
        return REFUSED


async def test_an_agent_that_is_down_fails_no_task_and_is_called_no_more_than_needed(
    database: Database, feed: Feed
) -> None:
    outage = Outage()
    agents = [replace(AGENTS[0], limits=Limits(concurrency=1))]
    async with working(database, ScriptedCaller(crm=outage), agents=agents) as worker:
        began = time.monotonic()
        await feed.send([feed.new_task(f"t-{n}") for n in range(40)], to=worker)
        await parked(database, tasks=40)
        probes = (time.monotonic() - began) / (QUICK.open_seconds / 2)
        assert outage.refused <= 5 + max(5, probes)  # five open the breaker
        outage.is_over = True
        await all_reach(database, "completed", tasks=40, seconds=20)


async def test_a_single_task_outlives_an_outage_that_is_longer_than_its_tries(
    database: Database, feed: Feed
) -> None:
    outage = Outage()
    targets = Targets(TargetOptions(breaker=replace(QUICK, failures_in_a_row=2, open_seconds=0.1)))
    async with working(database, ScriptedCaller(crm=outage), targets=targets) as worker:
        await feed.task("t", to=worker)
        await until(lambda: outage.refused >= 8, seconds=20)
        outage.is_over = True
        await reaches(database, "t", "completed")
    steps = await kinds(database, "t")
    assert steps.count("attempt_failed") == 1
    assert steps.count("call_parked") <= outage.refused


async def test_a_paused_agent_is_not_called_until_it_is_resumed(
    database: Database, feed: Feed
) -> None:
    caller = ScriptedCaller()
    await stored.pause(database, CRM, by="kim", reason="too dear")
    async with working(database, caller) as worker:
        await feed.task("t", to=worker)
        row = await reaches(database, "t", "waiting")
        assert row["reason"] == "agent 'crm' is paused by kim: too dear"
        assert (row["run_at"] - row["updated_at"]) > timedelta(seconds=25)
        await stored.resume(database, CRM)
        worker.agents_changed()
        await reaches(database, "t", "completed", seconds=2)
    assert caller.sends == {"t/2/1": 1}
    steps = ["accepted", "decision", "call_parked", "call_started", "result", "decision"]
    assert await kinds(database, "t") == [*steps, "completed"]


async def test_a_pause_is_heard_at_once_and_resume_wakes_what_others_parked(
    database: Database, feed: Feed
) -> None:
    caller, planner = ScriptedCaller(), ScriptedPlanner(delegate("crm"), complete())
    known = [quick(), quick()]
    async with (
        working(database, caller, planner=planner, targets=known[0]) as first,
        working(
            database, caller, planner=planner, targets=known[1], worker_name="second"
        ) as second,
    ):
        await stored.pause(database, CRM, by="kim", reason="")
        first.agents_changed()
        second.agents_changed()
        await until(lambda: all(targets.agent(AGENTS[0]).pause for targets in known))
        await feed.send([feed.new_task(f"t-{n}") for n in range(20)])
        await parked(database, tasks=20)
        assert not caller.sends
        await stored.resume(database, CRM)
        first.agents_changed()  # the second never heard of it, and only looks by itself
        await all_reach(database, "completed", tasks=20)


async def test_looks_that_find_nothing_new_leave_no_step(database: Database, feed: Feed) -> None:
    await stored.pause(database, CRM, by="kim", reason="")
    async with working(database, ScriptedCaller()) as worker:
        await feed.task("t", to=worker)
        await reaches(database, "t", "waiting")
        before = await kinds(database, "t")
        for _ in range(3):
            epoch = (await task_row(database, "t"))["epoch"]
            await stored.wake_parked(database, [CRM], limit=10)
            worker.wake()

            async def looked(before: int = epoch) -> bool:
                row = await task_row(database, "t")
                return bool(row["epoch"] > before and row["status"] == "waiting")

            await until(looked, seconds=5)
        assert await kinds(database, "t") == before


async def test_what_must_not_go_out_twice_is_parked_before_it_is_announced(
    database: Database, feed: Feed
) -> None:
    caller = ScriptedCaller(mail=says(success(sent=True)))
    await stored.pause(database, "agent/default/mail", by="kim", reason="")
    planner = ScriptedPlanner(delegate("mail"), complete())
    async with working(database, caller, planner=planner) as worker:
        await feed.task("t", to=worker)
        await reaches(database, "t", "waiting")
        assert not any(isinstance(b, CallStarted) for b in await bodies(database, "t"))
        await stored.resume(database, "agent/default/mail")
        worker.agents_changed()
        await reaches(database, "t", "completed")
    assert (caller.sends, caller.asked) == ({"t/2/1": 1}, {})


async def test_a_call_that_surely_was_not_sent_leaves_no_doubt_about_its_effect(
    database: Database, feed: Feed
) -> None:
    planner = ScriptedPlanner(delegate("mail"), complete())
    caller = ScriptedCaller(mail=says(*[REFUSED] * 7, success(sent=True)))
    targets = Targets(TargetOptions(breaker=replace(QUICK, failures_in_a_row=2, open_seconds=0.1)))
    async with working(database, caller, planner=planner, targets=targets) as worker:
        await feed.task("t", to=worker)
        await reaches(database, "t", "completed")
    assert (caller.effects, caller.asked) == ({"t/2/1": 1}, {})


async def test_two_parked_calls_of_one_decision_wait_for_the_earlier_time(
    database: Database, feed: Feed
) -> None:
    caller = ScriptedCaller()
    for name in ("crm", "billing"):
        await stored.pause(database, f"agent/default/{name}", by="kim", reason="")
    planner = ScriptedPlanner(delegate("crm", "billing", "mail"), complete())
    async with working(database, caller, planner=planner) as worker:
        await feed.task("t", to=worker)
        row = await reaches(database, "t", "waiting")
        assert row["parked_for"] == ["agent/default/billing", CRM]
        assert caller.sends == {"t/2/3": 1}
        for name in ("crm", "billing"):
            await stored.resume(database, f"agent/default/{name}")
            worker.agents_changed()
        await reaches(database, "t", "completed")
    assert (await task_row(database, "t"))["parked_for"] is None


async def test_a_full_bulkhead_parks_and_drains(database: Database, feed: Feed) -> None:
    caller = ScriptedCaller()
    agents = [replace(AGENTS[0], limits=Limits(concurrency=2, rate_per_second=40))]
    targets = quick(wait_seconds=0.05)
    async with working(database, caller, agents=agents, targets=targets) as worker:
        await feed.send([feed.new_task(f"t-{n}") for n in range(60)], to=worker)
        await all_reach(database, "completed", tasks=60)
    assert caller.most_under_way <= 2
    assert set(caller.sends.values()) == {1}


class Model:
    """A planner whose model is out for a while; counts what it was sent."""

    def __init__(self, error: ModelFailed) -> None:
        self.error: ModelFailed | None = error
        self.sends = 0

    async def plan(self, _snapshot: Snapshot) -> Turn:
        self.sends += 1
        if self.error is not None:
            raise self.error
        return Turn(decision=complete())


@pytest.mark.parametrize(
    ("fault", "wish"),
    [
        pytest.param(Fault.LIMITED, None, id="429"),
        pytest.param(Fault.LIMITED, 0.3, id="429 with Retry-After"),
        pytest.param(Fault.UNAVAILABLE, None, id="529"),
        pytest.param(Fault.FAILED, None, id="500, time-out, broken off"),
    ],
)
async def test_a_model_in_trouble_is_sent_little_more_than_it_needs(
    database: Database, feed: Feed, fault: Fault, wish: float | None
) -> None:
    error = ModelFailed("no answer", retryable=True, retry_after_seconds=wish, fault=fault)
    model, targets, patient = Model(error), quick(), RetryPolicy(max_attempts=20, base_seconds=0.01)
    planner = GatedPlanner(model, targets.model("openai:m", Limits(concurrency=4)))
    async with working(
        database, ScriptedCaller(), planner=planner, targets=targets, model_retry=patient
    ) as worker:
        began = time.monotonic()
        await feed.send([feed.new_task(f"t-{n}") for n in range(150)], to=worker)
        await parked(database, tasks=140, target=MODEL)
        probes = (time.monotonic() - began) / QUICK.limited_seconds
        model.error = None
        await all_reach(database, "completed", tasks=150)
    assert model.sends <= 150 + max(15, probes)
    told = [b for b in await bodies(database, "t-149") if isinstance(b, CallParked)]
    assert [(b.step, b.target) for b in told] == [(None, MODEL)] * len(told)


async def p99_seconds(database: Database, tasks: str) -> float:
    row = await database.fetch_one(
        "SELECT percentile_cont(0.99) WITHIN GROUP (ORDER BY finished_at - created_at) AS p99 "
        "FROM tasks WHERE task_id LIKE $1 AND status = 'completed'",
        tasks,
    )
    assert row is not None
    return float(row["p99"].total_seconds())


async def test_an_agent_that_hangs_does_not_slow_the_others(database: Database, feed: Feed) -> None:
    agents = [agent(f"a{n}", limits=Limits(concurrency=2)) for n in range(20)]
    caller = ScriptedCaller(a0=takes(30))
    scripts: dict[str, tuple[Answer, ...]] = {
        f"{run}-{n}": (delegate(f"a{1 + n % 19}"), complete())
        for run in ("alone", "beside")
        for n in range(95)
    }
    planner = ScriptedPlanner(delegate("a0"), complete(), by_task=scripts)
    async with working(database, caller, planner=planner, agents=agents, concurrency=50) as worker:
        await feed.send([feed.new_task(f"alone-{n}") for n in range(95)], to=worker)
        await all_reach(database, "completed", tasks=95)
        await feed.send([feed.new_task(f"hangs-{n}") for n in range(100)], to=worker)
        await until(lambda: caller.under_way == 2, seconds=10)
        await feed.send([feed.new_task(f"beside-{n}") for n in range(95)], to=worker)
        await all_reach(database, "completed", tasks=190)
    alone, beside = await p99_seconds(database, "alone-%"), await p99_seconds(database, "beside-%")
    assert beside <= 1.1 * alone + 1.0


async def ended(database: Database, task_id: str) -> tuple[CallFinished, Cancelled]:
    *_, result, end = await bodies(database, task_id)
    assert isinstance(result, CallFinished)
    assert isinstance(end, Cancelled)
    return result, end


async def test_a_task_that_is_cancelled_while_its_call_is_parked_had_no_effect(
    database: Database, feed: Feed
) -> None:
    await stored.pause(database, CRM, by="kim", reason="")
    async with working(database, ScriptedCaller()) as worker:
        await feed.task("t", to=worker)
        await reaches(database, "t", "waiting")
        await feed.event("t", "cancel", to=worker)
        await reaches(database, "t", "cancelled")
    result, end = await ended(database, "t")
    assert (result.status, result.error) == ("error", "it was not made: the task was over")
    assert end.unknown == ()


async def test_a_call_that_goes_out_after_it_was_parked_may_have_its_effect(
    database: Database, feed: Feed
) -> None:
    gate, planner = Gate(), ScriptedPlanner(delegate("crm"), complete())
    caller = ScriptedCaller(crm=gate)
    await stored.pause(database, CRM, by="kim", reason="")
    first = await start_worker(database, planner=planner, caller=caller)
    await feed.task("t", to=first.worker)
    await reaches(database, "t", "waiting")
    await stored.resume(database, CRM)
    first.worker.agents_changed()
    await gate.entered.wait()
    await first.kill()
    await feed.event("t", "cancel")
    async with working(database, ScriptedCaller(), planner=planner):
        await reaches(database, "t", "cancelled")
    result, end = await ended(database, "t")
    assert (result.status, end.unknown) == ("unknown", ("t/2/1",))
