"""The agentic planner and the demo LLM, as a process, from a task to its end."""

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest_asyncio

from orchestrator.agents.http import model_http_client
from orchestrator.domain.call import Call, CallStatus
from orchestrator.domain.decision import Complete, Decision, Delegate, Fail, Wait
from orchestrator.domain.json import JsonObject
from orchestrator.domain.snapshot import Snapshot
from orchestrator.planners.agentic.options import AgenticOptions
from orchestrator.planners.agentic.planner import AgenticPlanner
from orchestrator.planners.chat.model import build_model
from orchestrator.planners.chat.options import ModelOptions
from tests.unit.planners.journal import (
    AGENTS,
    FixedCatalogue,
    answered,
    decided,
    event,
    new_task,
    retried,
)

SERVER = Path(__file__).resolve().parents[4] / "demo" / "llm" / "server.py"

OUTPUTS: dict[str, JsonObject] = {
    "crm": {"customer_id": "C-1"},
    "accounts": {"account_number": "A-1"},
    "screening": {"screening_result": "clear"},
    "contracts": {"contract_id": "K-1"},
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def until_healthy(url: str) -> None:
    async with asyncio.timeout(30), httpx.AsyncClient(trust_env=False) as client:
        while True:
            try:
                if (await client.get(f"{url}/health")).json()["ready"]:
                    return
            except httpx.TransportError:
                await asyncio.sleep(0.05)


@pytest_asyncio.fixture(scope="module")
async def url() -> AsyncIterator[str]:
    """The address of a demo LLM; stopping it must be clean."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(SERVER), "--port", str(port), cwd="/"
    )
    try:
        await until_healthy(f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 10) == 0


@pytest_asyncio.fixture
async def planner(url: str) -> AsyncIterator[AgenticPlanner]:
    options = ModelOptions(model="openai:demo", base_url=f"{url}/v1", timeout_seconds=20)
    async with model_http_client(timeout_seconds=20) as client:
        yield AgenticPlanner(
            build_model(options, client=client),
            catalogue=FixedCatalogue(*AGENTS),
            model_options=options,
            options=AgenticOptions(),
        )


def carry_out(snapshot: Snapshot, call: Call) -> Snapshot:
    if call.agent == "contracts" and "term_months" not in call.input:
        return answered(
            snapshot, call.number, {}, status=CallStatus.INPUT_REQUIRED, error="term in months?"
        )
    return answered(snapshot, call.number, OUTPUTS[call.agent])


async def run(planner: AgenticPlanner, snapshot: Snapshot) -> tuple[Snapshot, list[Decision]]:
    """The task until it rests or all its fields are there, and what was decided."""
    decisions: list[Decision] = []
    while not snapshot.context.is_complete:
        turn = await planner.plan(snapshot)
        assert turn.usage.total > 0
        assert not turn.is_repair
        decisions.append(turn.decision)
        snapshot = decided(snapshot, turn)
        if not isinstance(turn.decision, Delegate):
            break
        for call in turn.decision.calls:
            snapshot = carry_out(snapshot, call)
    return snapshot, decisions


def called(decisions: list[Decision]) -> list[list[str]]:
    return [[call.agent for call in d.calls] for d in decisions if isinstance(d, Delegate)]


async def test_a_customer_is_registered_before_an_account_is_opened(
    planner: AgenticPlanner,
) -> None:
    task = new_task(
        "Register the customer ACME and open an account",
        required=("customer_id", "account_number"),
        event_data={"country": "DE"},
    )
    snapshot, decisions = await run(planner, task)
    assert called(decisions) == [["crm"], ["accounts"]]
    assert snapshot.context.collected_data == {"customer_id": "C-1", "account_number": "A-1"}
    assert isinstance(decisions[0], Delegate)
    assert decisions[0].calls[0].input == {"name": "ACME", "country": "DE"}


async def test_what_does_not_depend_on_each_other_is_called_side_by_side(
    planner: AgenticPlanner,
) -> None:
    task = new_task(
        "Onboard the supplier Globex: register it, screen it and open an account",
        required=("customer_id", "screening_result", "account_number"),
    )
    snapshot, decisions = await run(planner, task)
    assert called(decisions) == [["crm"], ["screening", "accounts"]]
    assert snapshot.context.is_complete


async def test_a_question_is_waited_for_and_answered_by_an_event(planner: AgenticPlanner) -> None:
    task = new_task(
        "Draw up a framework contract for the customer Initech", required=("contract_id",)
    )
    snapshot, decisions = await run(planner, task)
    assert decisions[-1] == Wait(waiting_for="term in months?")
    snapshot, decisions = await run(planner, event(snapshot, {"term_months": 24}))
    assert isinstance(decisions[0], Delegate)
    assert decisions[0].calls[0].input == {"name": "Initech", "term_months": 24}
    assert snapshot.context.collected_data == {"contract_id": "K-1"}


async def test_what_no_agent_can_do_fails_also_when_it_is_tried_again(
    planner: AgenticPlanner,
) -> None:
    task = new_task("Book a flight to Lisbon", required=("flight_number",))
    snapshot, decisions = await run(planner, task)
    assert decisions == [Fail(reason="no agent can provide flight_number")]
    _, decisions = await run(planner, retried(snapshot))
    assert decisions == [Fail(reason="no agent can provide flight_number")]


async def test_without_required_fields_the_task_completes_with_the_output(
    planner: AgenticPlanner,
) -> None:
    _, decisions = await run(planner, new_task("Register the customer Hooli", required=()))
    assert called(decisions) == [["crm"]]
    assert decisions[-1] == Complete(result={"customer_id": "C-1"})


async def test_agents_that_are_too_many_for_a_tool_each_are_listed_first(url: str) -> None:
    options = ModelOptions(model="openai:demo", base_url=f"{url}/v1", timeout_seconds=20)
    async with model_http_client(timeout_seconds=20) as client:
        planner = AgenticPlanner(
            build_model(options, client=client),
            catalogue=FixedCatalogue(*AGENTS),
            model_options=options,
            options=AgenticOptions(max_agent_tools=2),
        )
        task = new_task("Register the customer ACME", required=("account_number",))
        snapshot, decisions = await run(planner, task)
    assert called(decisions) == [[], ["crm"], ["accounts"]]
    assert snapshot.context.is_complete


async def test_streaming_is_refused_and_the_model_is_listed(url: str) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": True}
        refused = await client.post(f"{url}/v1/chat/completions", json=body)
        models = await client.get(f"{url}/v1/models")
    assert refused.status_code == 400
    assert "streaming is not supported" in refused.json()["error"]["message"]
    assert models.json()["data"][0]["id"] == "demo-planner"
