"""What the engine relies on in every planner, on a scripted model and on one behind a socket."""

import asyncio
import copy
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from orchestrator.agents.http import model_http_client
from orchestrator.domain.decision import Delegate, Turn
from orchestrator.domain.step import Decided, dump_body, load_body
from orchestrator.planners.agentic.planner import AgenticPlanner
from orchestrator.planners.chat.model import build_model
from orchestrator.planners.chat.options import ModelOptions
from orchestrator.planners.planner import Planner
from tests.fakes.model import ScriptedModel, tool_calls
from tests.integration.planners.stub import completion, http_answer, serving
from tests.unit.planners.journal import AGENTS, FixedCatalogue, new_task

SCRIPT = tool_calls(
    ("agent_crm", {"name": "ACME"}), ("agent_crm", {"name": "Globex"}), ("agent_crm", {})
)
ON_THE_WIRE = completion(
    ("agent_crm", '{"name": "ACME"}'), ("agent_crm", '{"name": "Globex"}'), ("agent_crm", "{")
)


@pytest_asyncio.fixture(params=["scripted", "openai"])
async def planner(request: pytest.FixtureRequest) -> AsyncIterator[Planner]:
    """A planner that calls two agents and gets a third call wrong, in every turn."""
    catalogue = FixedCatalogue(*AGENTS)
    if request.param == "scripted":
        options = ModelOptions(model="scripted:x")
        model = ScriptedModel(script=[SCRIPT] * 50)
        yield AgenticPlanner(model, catalogue=catalogue, model_options=options)
        return
    async with serving(http_answer(200, ON_THE_WIRE)) as stub:
        options = ModelOptions(model="openai:x", base_url=stub.url)
        async with model_http_client(timeout_seconds=20) as client:
            chat = build_model(options, client=client)
            yield AgenticPlanner(chat, catalogue=catalogue, model_options=options)


def as_step(turn: Turn) -> Decided:
    return Decided(
        decision=turn.decision,
        message=turn.message,
        replies=turn.replies,
        is_repair=turn.is_repair,
        model=turn.model,
        usage=turn.usage,
        duration_ms=turn.duration_ms,
    )


async def test_a_turn_can_be_journaled_and_read_back(planner: Planner) -> None:
    body = as_step(await planner.plan(new_task()))
    assert load_body(body.kind, json.loads(dump_body(body))) == body


async def test_calls_are_numbered_from_one_and_go_to_known_agents(planner: Planner) -> None:
    turn = await planner.plan(new_task())
    assert isinstance(turn.decision, Delegate)
    assert [call.number for call in turn.decision.calls] == [1, 2]
    assert {call.agent for call in turn.decision.calls} <= {agent.id for agent in AGENTS}


async def test_planning_changes_nothing_in_the_snapshot(planner: Planner) -> None:
    snapshot = new_task(event_data={"country": "DE"})
    before = copy.deepcopy(snapshot)
    await planner.plan(snapshot)
    assert snapshot == before


async def test_many_tasks_can_be_planned_at_once(planner: Planner) -> None:
    turns = await asyncio.gather(*(planner.plan(new_task()) for _ in range(20)))
    assert all(isinstance(turn.decision, Delegate) for turn in turns)
