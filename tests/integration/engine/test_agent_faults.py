"""Each way in which an agent fails, over real HTTP: how often it is sent, what the task sees."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import pytest

from orchestrator.agents.breaker import BreakerOptions, BreakerState
from orchestrator.agents.callers.http_json import HttpCaller
from orchestrator.agents.http import agent_http_client
from orchestrator.agents.target import TargetOptions
from orchestrator.agents.targets import Targets
from orchestrator.domain.agent import Limits
from orchestrator.domain.step import CallFinished, EventApplied
from orchestrator.engine.worker import Worker
from orchestrator.store.database import Database
from tests.fakes.agent import Behaviour, FakeAgent, failed, ok, running_agent, status
from tests.fakes.callers import CRM
from tests.fakes.scripted_planner import ScriptedPlanner, complete, delegate
from tests.fakes.workers import Feed, bodies, kinds, reaches, running_worker, soon

KEY = "t/2/1"
TRIES = 3
"""As `engine_options` has it."""


@dataclass(frozen=True, kw_only=True)
class Class:
    """What the agent does to each send, and what comes of it."""

    does: Behaviour
    sends: int
    says: str


CLASSES = {
    "400": Class(does=status(400), sends=1, says="HTTP 400"),
    "401": Class(does=status(401), sends=1, says="HTTP 401"),
    "404": Class(does=status(404, body="no such thing"), sends=1, says="no such thing"),
    "409": Class(does=status(409), sends=1, says="HTTP 409"),
    "redirect": Class(does=status(307, Location="/x"), sends=1, says="redirects are not followed"),
    "not JSON": Class(does=Behaviour(body="<html>"), sends=1, says="not JSON"),
    "another contract": Class(does=Behaviour(body='{"ok": 1}'), sends=1, says="the contract"),
    "wrong schema": Class(does=ok({"customer_id": 5}), sends=1, says="against its schema"),
    "its own error": Class(does=failed("no stock"), sends=1, says="no stock"),
    "may pass": Class(does=failed("locked", retryable=True), sends=TRIES, says="locked"),
    "408": Class(does=status(408), sends=TRIES, says="HTTP 408"),
    "500": Class(does=status(500), sends=TRIES, says="HTTP 500"),
    "502": Class(does=status(502), sends=TRIES, says="HTTP 502"),
    "503": Class(does=status(503), sends=TRIES, says="HTTP 503"),
    "504": Class(does=status(504), sends=TRIES, says="HTTP 504"),
    "reset": Class(does=Behaviour(kind="reset"), sends=TRIES, says="failed"),
    "cut off": Class(does=Behaviour(kind="cut_off"), sends=TRIES, says="failed"),
    "time-out": Class(does=Behaviour(kind="hang"), sends=TRIES, says="did not answer within"),
}
"""The table of `docs/guides/write-an-agent.md`."""


@asynccontextmanager
async def served(
    database: Database,
    agent: FakeAgent,
    *,
    timeout_seconds: float = 10,
    targets: Targets | None = None,
) -> AsyncIterator[Worker]:
    declared = replace(CRM, endpoint=agent.url, limits=Limits(timeout_seconds=timeout_seconds))
    quick = BreakerOptions(open_seconds=0.2, limited_seconds=0.1, max_limited_seconds=0.2)
    async with (
        agent_http_client() as client,
        running_worker(
            database,
            planner=ScriptedPlanner(delegate("crm", name="ACME"), complete()),
            caller=HttpCaller(client, environ={}),
            agents=[declared],
            targets=targets or Targets(TargetOptions(breaker=quick)),
        ) as worker,
    ):
        yield worker


async def result_of(database: Database, task_id: str) -> CallFinished:
    (result,) = (b for b in await bodies(database, task_id) if isinstance(b, CallFinished))
    return result


@pytest.mark.parametrize("name", CLASSES)
async def test_each_class_of_failure_is_sent_as_often_as_the_guide_says(
    database: Database, feed: Feed, name: str
) -> None:
    expected = CLASSES[name]
    patience = 0.5 if name == "time-out" else 10
    async with (
        running_agent(expected.does) as agent,
        served(database, agent, timeout_seconds=patience) as worker,
    ):
        await feed.task("t", to=worker)
        await reaches(database, "t", "completed")
        agent.release()
    result = await result_of(database, "t")
    assert (result.status, agent.sends[KEY]) == ("error", expected.sends)
    assert expected.says in (result.error or "")
    assert (await kinds(database, "t")).count("attempt_failed") == expected.sends - 1


async def test_tasks_in_a_hurry_do_not_open_the_breaker_of_a_slow_agent(
    database: Database, feed: Feed
) -> None:
    targets, deadline = Targets(), soon()
    async with (
        running_agent(Behaviour(kind="hang")) as agent,
        served(database, agent, targets=targets) as worker,
    ):
        hurried = [feed.new_task(f"t-{n}", deadline=deadline) for n in range(12)]
        await feed.send(hurried, to=worker)
        for n in range(12):
            await reaches(database, f"t-{n}", "failed")
        agent.release()
    (state,) = targets.states()
    assert agent.sends.total() >= 12
    assert state.breaker is BreakerState.CLOSED


async def test_an_agent_that_limits_is_left_alone_until_it_takes_the_call(
    database: Database, feed: Feed
) -> None:
    async with running_agent() as agent, served(database, agent) as worker:
        agent.will(*[status(429)] * 6, ok({"customer_id": "C"}))
        await feed.task("t", to=worker)
        await reaches(database, "t", "completed")
    assert (await result_of(database, "t")).status == "success"
    steps = await kinds(database, "t")
    assert (steps.count("attempt_failed"), steps.count("call_parked")) == (1, 1)
    assert agent.sends[KEY] == 7


async def test_an_answer_that_comes_too_late_is_asked_for_again_and_done_once(
    database: Database, feed: Feed
) -> None:
    tasks, answer = [f"t-{n}" for n in range(50)], ok({"customer_id": "C"})
    async with (
        running_agent(answer) as agent,
        served(database, agent, timeout_seconds=1.0) as worker,
    ):
        agent.repeats_at_once = True
        agent.will(*[replace(answer, delay_seconds=2.0)] * 15)
        await feed.send([feed.new_task(t, required=("customer_id",)) for t in tasks], to=worker)
        await asyncio.gather(*(reaches(database, t, "completed", seconds=30) for t in tasks))
    assert agent.sends.total() >= 65
    assert agent.effects == {f"{task}/2/1": 1 for task in tasks}


async def test_a_second_result_of_a_call_changes_nothing(database: Database, feed: Feed) -> None:
    async with running_agent(status(202)) as agent, served(database, agent) as worker:
        await feed.task("t", to=worker)
        await reaches(database, "t", "waiting")
        for number in (1, 2):
            answer = {"status": "success", "output": {"customer_id": f"C-{number}"}}
            await feed.event("t", "agent_result", step=2, call=1, payload=answer)
        await reaches(database, "t", "completed")
    results = [b for b in await bodies(database, "t") if isinstance(b, CallFinished)]
    assert [r.output for r in results] == [{}, {"customer_id": "C-1"}]
    late = [b for b in await bodies(database, "t") if isinstance(b, EventApplied)]
    assert [b.payload["output"] for b in late] == [{"customer_id": "C-2"}]
