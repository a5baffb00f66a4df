"""An endpoint that wants its own fields back, a journal in PostgreSQL, and workers that change."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from orchestrator.agents.http import model_http_client
from orchestrator.domain.ids import Seq, TaskId
from orchestrator.domain.step import Decided, Forked
from orchestrator.engine.worker import Worker
from orchestrator.planners.agentic.planner import AgenticPlanner
from orchestrator.planners.chat.model import build_model
from orchestrator.planners.chat.options import ModelOptions
from orchestrator.store.database import Database
from orchestrator.store.fork import fork
from orchestrator.store.outbox import StepUpdate, next_rows
from tests.fakes.scripted_caller import ScriptedCaller, says, success
from tests.fakes.workers import Feed, bodies, reaches, running_worker
from tests.integration.planners.shapes import GOOGLE, THOUGHT, call, chat
from tests.integration.planners.stub import Strict, Stub, serving
from tests.unit.planners.journal import AGENTS, FixedCatalogue

REQUIRED = ("customer_id", "country")


def answer(body: dict[str, Any]) -> bytes:
    """Calls an agent, then waits; refuses an earlier answer that lacks its signature."""
    is_first = not any(message["role"] == "assistant" for message in body["messages"])
    waits = {"name": "wait_for_event", "arguments": '{"reason": "a country"}'}
    called = call("c") if is_first else call(f"w{len(body['messages'])}", function=waits)
    reply = chat({**called, "extra_content": GOOGLE}, reasoning_content=THOUGHT)
    return Strict(reply, demands="extra_content")(body)


@asynccontextmanager
async def working(database: Database, stub: Stub) -> AsyncIterator[Worker]:
    options = ModelOptions(model="openai:thinker", base_url=stub.url, timeout_seconds=10)
    async with model_http_client(timeout_seconds=10) as client:
        planner = AgenticPlanner(
            build_model(options, client=client),
            catalogue=FixedCatalogue(*AGENTS),
            model_options=options,
        )
        caller = ScriptedCaller(crm=says(success(customer_id="C-1")))
        async with running_worker(
            database, planner=planner, caller=caller, agents=AGENTS
        ) as worker:
            yield worker


async def test_another_worker_and_a_fork_send_the_model_what_it_gave(
    database: Database, feed: Feed
) -> None:
    async with serving(answer) as stub:
        async with working(database, stub) as worker:
            await feed.task("t", required=REQUIRED, to=worker)
            await reaches(database, "t", "waiting")
        async with working(database, stub) as worker:
            await feed.event("t", to=worker, payload={"note": "soon"})
            await reaches(database, "t", "waiting")
            await fork(database, Forked(task="t", step=Seq(3), by="ops"), new=TaskId("f"))
            worker.wake()
            await reaches(database, "f", "waiting")
    assert len(stub.bodies) == 4
    last = [m for m in stub.bodies[-1]["messages"] if m["role"] == "assistant"]
    assert [m["reasoning_content"] for m in last] == [THOUGHT]
    assert "failed" not in {body.kind for body in await bodies(database, "t")}


async def test_updates_do_not_tell_what_is_kept_for_the_model(
    database: Database, feed: Feed
) -> None:
    async with serving(answer) as stub, working(database, stub) as worker:
        await feed.task("t", required=REQUIRED, to=worker)
        await reaches(database, "t", "waiting")
    kept = [body.message for body in await bodies(database, "t") if isinstance(body, Decided)]
    assert all(message and message.kept for message in kept)
    told = [row for row in await next_rows(database, 100) if isinstance(row, StepUpdate)]
    messages = [row.body["message"] for row in told if row.kind == "decision"]
    assert len(messages) == len(kept) == 2
    assert all(isinstance(message, dict) and "kept" not in message for message in messages)
