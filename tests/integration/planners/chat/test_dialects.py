"""Endpoints that are not OpenAI's own, as the planner meets them through the real client.

`tests/fakes/strict.py` has what each of them refuses, and in which words.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from orchestrator.agents.http import model_http_client
from orchestrator.domain.budget import Allowance, Budget
from orchestrator.domain.decision import Complete, Delegate, Fail
from orchestrator.domain.errors import ModelFailed
from orchestrator.domain.json import JsonObject
from orchestrator.domain.snapshot import Snapshot
from orchestrator.planners.agentic.planner import AgenticPlanner
from orchestrator.planners.chat.model import build_model
from orchestrator.planners.chat.options import ModelOptions
from tests.fakes import strict
from tests.fakes.llm import FakeLlm, Refusal, Request, calls, running_llm, text
from tests.unit.planners.journal import (
    AGENTS,
    FixedCatalogue,
    answered,
    decided,
    new_task,
)

KEY = "sk-of-a-test"
OUTPUTS: dict[str, JsonObject] = {
    "crm": {"customer_id": "C-1"},
    "accounts": {"account_number": "A-1"},
}
Rule = Callable[[Request], Refusal | None]


@asynccontextmanager
async def planning(
    llm: FakeLlm, *, path: str = "/v1", model: str = "openai:planner", **options: Any
) -> AsyncIterator[AgenticPlanner]:
    made = ModelOptions(
        model=model, base_url=llm.url.removesuffix("/v1") + path, api_key=KEY, **options
    )
    async with model_http_client(timeout_seconds=10) as client:
        yield AgenticPlanner(
            build_model(made, client=client),
            catalogue=FixedCatalogue(*AGENTS),
            model_options=made,
        )


def the_task(*, tokens: int | None = 100_000) -> Snapshot:
    """With a budget, so that requests bound their answers."""
    snapshot = new_task(
        required=("customer_id", "account_number"), event_data={"source": "the front desk"}
    )
    task = replace(snapshot.task, budget=Budget(tokens=tokens))
    return replace(snapshot, task=task, allowance=Allowance(tokens=tokens))


async def done(planner: AgenticPlanner, snapshot: Snapshot | None = None) -> list[str]:
    """The agents that were called, in their order, until the task was complete."""
    snapshot = snapshot or the_task()
    called: list[str] = []
    for _ in range(6):
        turn = await planner.plan(snapshot)
        if isinstance(turn.decision, Complete):
            return called
        assert isinstance(turn.decision, Delegate), turn.decision
        snapshot = decided(snapshot, turn)
        for call in turn.decision.calls:
            called.append(str(call.agent))
            snapshot = answered(snapshot, call.number, OUTPUTS[call.agent])
    raise AssertionError(f"not complete: {called}")


LEARNED: dict[str, tuple[Rule, dict[str, Any], set[str]]] = {
    "OpenAI, a reasoning model": (
        strict.openai_reasoning,
        {"temperature": 0.2},
        {"no-parallel-tool-calls", "no-temperature"},
    ),
    "OpenAI, a model without chat completions": (strict.responses_only, {}, {"responses"}),
    "Azure, a deployment": (
        strict.azure_deployment,
        {"path": "/openai/deployments/planner/chat/completions?api-version=2024-10-21"},
        {"no-parallel-tool-calls"},
    ),
    "Azure, v1": (strict.azure_v1, {"path": "/openai/v1/"}, set()),
    "vLLM, a template with turns": (
        strict.vllm_alternating,
        {},
        {"max-tokens", "merge-messages"},
    ),
    "vLLM, a template without system": (
        strict.vllm_without_system,
        {},
        {"max-tokens", "merge-messages", "no-system-role"},
    ),
    "Mistral": (strict.mistral, {}, {"max-tokens", "merge-messages", "short-call-ids"}),
    "DeepSeek, thinking": (strict.deepseek_thinking, {}, {"no-tool-choice"}),
    "Gemini": (
        strict.gemini,
        {"path": "/v1beta/openai/"},
        {"no-parallel-tool-calls", "plain-schemas"},
    ),
    "Ollama": (strict.ollama, {}, {"empty-content"}),
    "LiteLLM": (strict.litellm, {}, {"no-parallel-tool-calls", "no-tool-choice"}),
    "OpenRouter": (strict.openrouter, {"path": "/api/v1"}, {"no-tool-choice"}),
    "llama.cpp": (strict.llama_cpp, {}, {"merge-messages"}),
}


@pytest.mark.parametrize(("rule", "options", "switches"), LEARNED.values(), ids=LEARNED)
async def test_what_an_endpoint_refuses_is_learned_once_and_costs_no_turn(
    rule: Rule, options: dict[str, Any], switches: set[str]
) -> None:
    async with running_llm() as llm, planning(llm, **options) as planner:
        llm.refuses = rule
        with capture_logs() as told:
            assert await done(planner) == ["crm", "accounts"]
        assert len(llm.refused) == len(switches)
        assert await done(planner) == ["crm", "accounts"]
    assert len(llm.refused) == len(switches)
    assert sorted(line["switch"] for line in told) == sorted(switches)
    last = f"ORCHESTRATOR_MODEL_DIALECT={','.join(sorted(switches))}"
    assert [line["setting"] for line in told][-1:] == [last] * bool(switches)


PACKAGES: dict[str, tuple[str, Rule, str]] = {
    "mistralai": ("langchain_mistralai", strict.mistral, "merge-messages"),
    "deepseek": ("langchain_deepseek", strict.deepseek_thinking, "no-tool-choice"),
}


@pytest.mark.parametrize("provider", PACKAGES)
async def test_what_a_providers_own_package_is_refused_is_learned_too(provider: str) -> None:
    package, rule, switch = PACKAGES[provider]
    pytest.importorskip(package)
    async with running_llm() as llm, planning(llm, model=f"{provider}:planner") as planner:
        llm.refuses, llm.closes = rule, True
        with capture_logs() as told:
            for _ in range(2):
                assert await done(planner, the_task(tokens=None)) == ["crm", "accounts"]
    assert [line["switch"] for line in told] == [switch]
    assert len(llm.refused) == 1


async def test_a_refusal_that_comes_with_200_is_learned_from_too() -> None:
    def within(request: Request) -> Refusal | None:
        refusal = strict.deepseek_thinking(request)
        return (200, {"error": {**refusal[1]["error"], "code": 400}}) if refusal else None

    async with running_llm() as llm, planning(llm) as planner:
        llm.refuses = within
        assert await done(planner) == ["crm", "accounts"]
    assert len(llm.refused) == 1


async def test_what_many_turns_learn_at_once_is_told_once() -> None:
    async with running_llm() as llm, planning(llm) as planner:
        llm.refuses = strict.mistral
        with capture_logs() as told:
            called = await asyncio.gather(*(done(planner) for _ in range(20)))
    assert called == [["crm", "accounts"]] * 20
    assert len(told) == 3


@pytest.mark.parametrize(("rule", "options", "switches"), LEARNED.values(), ids=LEARNED)
async def test_with_its_switches_an_endpoint_refuses_nothing(
    rule: Rule, options: dict[str, Any], switches: set[str]
) -> None:
    dialect = frozenset(switches)
    async with running_llm() as llm, planning(llm, dialect=dialect, **options) as planner:
        llm.refuses = rule
        assert await done(planner) == ["crm", "accounts"]
    assert llm.refused == []


async def test_the_state_stands_at_the_end_of_a_tools_result_where_turns_must_alternate() -> None:
    dialect = frozenset({"merge-messages"})
    async with running_llm() as llm, planning(llm, dialect=dialect) as planner:
        await done(planner)
    roles = [[m["role"] for m in request.body["messages"]] for request in llm.requests]
    assert roles[:2] == [["system", "user"], ["system", "user", "assistant", "tool"]]
    assert "Context now:" in llm.requests[1].body["messages"][-1]["content"]


async def test_a_refusal_that_nothing_mends_changes_nothing_for_later_requests() -> None:
    async with running_llm() as llm, planning(llm) as planner:
        llm.refuses = lambda _: (400, {"error": {"message": "tool_choice: the moon is full"}})
        with pytest.raises(ModelFailed, match="the moon is full"):
            await planner.plan(the_task(tokens=None))
        assert len(llm.refused) == 2
        llm.refuses = lambda _: None
        await done(planner)
    assert llm.requests[-1].body["tool_choice"] == "required"


async def test_a_bound_that_is_too_large_is_left_out_of_that_request_alone() -> None:
    def too_large(request: Request) -> Refusal | None:
        said = request.body.get("max_completion_tokens", 0)
        text = f"max_completion_tokens is too large: {said}. This model supports at most 4096."
        return (400, {"error": {"message": text}}) if said > 4096 else None

    async with running_llm() as llm, planning(llm) as planner:
        llm.refuses = too_large
        await done(planner)
        assert len(llm.refused) == 3
        await done(planner, the_task(tokens=4000))
    assert len(llm.refused) == 3
    assert llm.requests[-1].body["max_completion_tokens"] < 4000


@pytest.mark.parametrize(
    "model", ["openai:my-codex", "openai:gpt-5-pro", "openai:gpt-6-mini", "openai:o1-of-ours"]
)
async def test_at_an_endpoint_of_ones_own_a_models_name_decides_nothing(model: str) -> None:
    async with running_llm() as llm, planning(llm, model=model, temperature=0.2) as planner:
        await done(planner)
    asked = llm.requests[0]
    assert (asked.path, asked.body["temperature"]) == ("/v1/chat/completions", 0.2)
    assert asked.body["messages"][0]["role"] == "system"


RESPONSES: dict[str, dict[str, Any]] = {
    "by the dialect": {"dialect": frozenset({"responses"})},
    "by the address": {"path": "/openai/v1/responses?api-version=preview"},
}


@pytest.mark.parametrize("options", RESPONSES.values(), ids=RESPONSES)
async def test_responses_are_asked_for_where_it_is_said(options: dict[str, Any]) -> None:
    async with running_llm() as llm, planning(llm, **options) as planner:
        assert await done(planner) == ["crm", "accounts"]
    assert {request.path.rpartition("/")[2] for request in llm.requests} == {"responses"}


@pytest.mark.parametrize("arguments", ['["ACME"]', '"ACME"', "7", '{"name": '])
async def test_arguments_that_are_no_object_are_repaired_on_responses_too(arguments: str) -> None:
    broken = replace(text(""), tool_calls=(("agent_crm", arguments),))
    dialect = frozenset({"responses"})
    async with running_llm() as llm, planning(llm, dialect=dialect) as planner:
        llm.will("", broken)
        turn = await planner.plan(the_task())
    assert turn.is_repair
    assert "are no JSON object" in turn.replies[0].text


@pytest.mark.parametrize("dialect", [frozenset(), frozenset({"responses"})], ids=["chat", "resp"])
async def test_arguments_that_are_an_object_in_place_of_its_text_are_taken(
    dialect: frozenset[str],
) -> None:
    async with running_llm() as llm, planning(llm, dialect=dialect) as planner:
        llm.gives_objects = True
        assert await done(planner) == ["crm", "accounts"]


async def test_a_path_that_is_not_there_is_named() -> None:
    async with running_llm() as llm, planning(llm, path="/v2?code=secret") as planner:
        llm.refuses = lambda _: (404, {"detail": "Not Found"})
        with pytest.raises(ModelFailed, match="POST /v2/chat/completions") as caught:
            await planner.plan(the_task())
    assert "secret" not in str(caught.value)


async def test_the_query_of_the_address_goes_with_every_request() -> None:
    async with running_llm() as llm, planning(llm, path="/v1?api-version=1&x=%2F") as planner:
        await done(planner)
    assert {r.path for r in llm.requests} == {"/v1/chat/completions"}
    assert all(r.query == {"api-version": "1", "x": "/"} for r in llm.requests)


async def test_after_three_answers_in_plain_text_the_endpoint_is_said_to_ignore_tools() -> None:
    async with running_llm() as llm, planning(llm) as planner:
        llm.will("", text("Sure!"), text("I will register it."), text("Done."))
        snapshot = the_task(tokens=None)
        for _ in range(3):
            turn = await planner.plan(snapshot)
            snapshot = decided(snapshot, turn)
    assert isinstance(turn.decision, Fail)
    assert "may ignore tools" in turn.decision.reason
    bounds = [request.body.get("max_completion_tokens") for request in llm.requests]
    assert bounds == [None, 4000, 4000]


async def test_plain_text_after_a_wrong_call_says_nothing_of_tools() -> None:
    async with running_llm() as llm, planning(llm) as planner:
        llm.will("", calls(("agent_nobody", {})), text("Sure!"), text("Done."))
        snapshot = the_task()
        for _ in range(3):
            turn = await planner.plan(snapshot)
            snapshot = decided(snapshot, turn)
    assert isinstance(turn.decision, Fail)
    assert "may ignore tools" not in turn.decision.reason
