"""One turn of the agentic planner, with a scripted model."""

from dataclasses import replace
from typing import Any

import httpx
import pytest
from langchain_core.exceptions import ModelRateLimitError
from langchain_core.messages import AIMessage, ToolMessage
from openai import OpenAIError

from orchestrator.domain.budget import Allowance
from orchestrator.domain.decision import Complete, Delegate, Fail, Usage
from orchestrator.domain.errors import ModelFailed
from orchestrator.domain.fault import Fault
from orchestrator.domain.snapshot import Snapshot
from orchestrator.planners.agentic.options import AgenticOptions
from orchestrator.planners.agentic.planner import AgenticPlanner
from orchestrator.planners.chat.options import ModelOptions, Price
from orchestrator.planners.chat.reserve import BOUNDED_OUTPUT_TOKENS
from orchestrator.planners.planner import OverBudget, PromptShown
from tests.fakes.model import ScriptedModel, broken_call, tool_calls
from tests.unit.planners.journal import (
    AGENTS,
    CRM,
    FixedCatalogue,
    answered,
    decided,
    event,
    new_task,
)

ASK_CRM = ("agent_crm", {"name": "ACME"})


def planner_of(
    model: ScriptedModel,
    *,
    catalogue: FixedCatalogue | None = None,
    shown: list[PromptShown] | None = None,
    price: Price | None = None,
    model_name: str = "scripted:test",
) -> AgenticPlanner:
    return AgenticPlanner(
        model,
        catalogue=catalogue or FixedCatalogue(*AGENTS),
        model_options=ModelOptions(model=model_name, price=price),
        options=AgenticOptions(),
        on_turn=shown.append if shown is not None else None,
    )


async def test_a_turn_tells_the_decision_the_tokens_and_the_model() -> None:
    turn = await planner_of(ScriptedModel(script=[tool_calls(ASK_CRM)])).plan(new_task())
    assert isinstance(turn.decision, Delegate)
    assert turn.decision.calls[0].agent == "crm"
    assert turn.usage == Usage(input_tokens=10, output_tokens=5)
    assert turn.model == "test"


class Refusal(Exception):
    """An answer of HTTP, as providers' packages put it into the exceptions that they raise."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.response = httpx.Response(400, json={"message": text})


async def test_what_another_providers_endpoint_refuses_is_learned_too() -> None:
    refusals = ["Thinking mode does not support this tool_choice", "Roles must alternate"]
    errors = [OpenAIError(refusal) for refusal in refusals]
    for error, refusal in zip(errors, refusals, strict=True):
        error.__cause__ = Refusal(refusal)
    model = ScriptedModel(script=[*errors, tool_calls(ASK_CRM), tool_calls(ASK_CRM)])
    planner = planner_of(model)
    await planner.plan(new_task())
    await planner.plan(new_task())
    assert model.choices == ["any", None, None, None]
    kinds = [[message.type for message in request] for request in model.requests]
    assert kinds[1:] == [["system", "human", "human"], *[["system", "human"]] * 2]


async def test_a_turn_that_may_need_more_than_there_is_is_not_asked_for() -> None:
    model = ScriptedModel(script=[tool_calls(ASK_CRM)])
    for allowance, resource in (
        (Allowance(tokens=1100), "tokens"),
        (Allowance(cost_micros=4000), "cost_micros"),
    ):
        snapshot = replace(new_task(), allowance=allowance)
        with pytest.raises(OverBudget) as raised:
            await planner_of(model, price=Price(input=1.0, output=4.0)).plan(snapshot)
        assert raised.value.resource == resource
    assert model.requests == []


async def test_a_turn_that_fits_costs_what_the_model_counted() -> None:
    planner = planner_of(
        ScriptedModel(script=[tool_calls(ASK_CRM)]), price=Price(input=0.41, output=1.6)
    )
    allowance = Allowance(tokens=10_000, cost_micros=10_000)
    turn = await planner.plan(replace(new_task(), allowance=allowance))
    assert (turn.usage.total, turn.cost_micros) == (15, 13)


async def test_only_the_request_of_a_task_with_a_budget_bounds_the_answer() -> None:
    model = ScriptedModel(script=[tool_calls(ASK_CRM)] * 2)
    planner = planner_of(model, price=Price(input=1.0, output=4.0))
    for allowance in (Allowance(tokens=200_000), Allowance(tokens=200_000, cost_micros=100_000)):
        await planner.plan(replace(new_task(), allowance=allowance))
    assert model.bounds == [None, BOUNDED_OUTPUT_TOKENS]


def cut(answer: AIMessage) -> AIMessage:
    answer.response_metadata = {"finish_reason": "length"}
    return answer


async def test_an_answer_that_its_bound_cut_is_repaired_and_then_fails_the_task() -> None:
    script = [cut(broken_call("agent_crm", '{"name": ')) for _ in range(2)]
    planner = planner_of(ScriptedModel(script=[*script, cut(AIMessage(content=""))]))
    snapshot = new_task()
    for _ in range(2):
        turn = await planner.plan(snapshot)
        assert turn.is_repair
        assert "cut at the bound of its output tokens" in turn.replies[0].text
        snapshot = decided(snapshot, turn)
    last = (await planner.plan(snapshot)).decision
    assert isinstance(last, Fail)
    assert last.reason.endswith(
        "its answer was empty (the answer was cut at the bound of its output tokens)"
    )


async def test_a_model_that_refuses_three_times_fails_the_task_with_its_words() -> None:
    refused = AIMessage(content="", additional_kwargs={"refusal": "I can't help with that."})
    planner = planner_of(ScriptedModel(script=[refused] * 3))
    snapshot = new_task()
    for _ in range(2):
        snapshot = decided(snapshot, await planner.plan(snapshot))
    last = (await planner.plan(snapshot)).decision
    assert isinstance(last, Fail)
    assert last.reason.endswith(
        'it answered in plain text: "I can\'t help with that." (the model refused)'
    )


async def test_each_result_is_shown_with_its_own_call_where_ids_come_again() -> None:
    """Some servers count calls anew with each answer."""
    model = ScriptedModel(script=[tool_calls(ASK_CRM), tool_calls(ASK_CRM), tool_calls(ASK_CRM)])
    planner, snapshot = planner_of(model), new_task()
    for customer in ("C-1", "C-2"):
        snapshot = decided(snapshot, await planner.plan(snapshot))
        snapshot = answered(snapshot, 1, {"customer_id": customer})
    await planner.plan(snapshot)
    first, second = [m for m in model.requests[-1] if isinstance(m, AIMessage)]
    results = [m for m in model.requests[-1] if isinstance(m, ToolMessage)]
    asked = [first.tool_calls[0]["id"], second.tool_calls[0]["id"]]
    assert len(set(asked)) == 2
    assert [result.tool_call_id for result in results] == asked
    assert ["C-1" in results[0].text, "C-2" in results[1].text] == [True, True]


@pytest.mark.parametrize("error", [TypeError("x"), KeyError("x"), ValueError("x")])
async def test_an_error_that_no_library_promises_is_not_the_models(error: Exception) -> None:
    """As a failure of the model it would end the task; it is a fault to be mended."""
    with pytest.raises(type(error)):
        await planner_of(ScriptedModel(script=[error]), model_name="openai:test").plan(new_task())


@pytest.mark.parametrize("error", [TypeError("x"), KeyError("x"), ValueError("x")])
async def test_what_another_providers_client_raises_over_an_answer_is_tried_again(
    error: Exception,
) -> None:
    with pytest.raises(ModelFailed, match="can't be read") as caught:
        await planner_of(ScriptedModel(script=[error])).plan(new_task())
    assert (caught.value.retryable, caught.value.fault) == (True, Fault.FAILED)


async def test_an_error_that_came_with_an_answer_of_http_is_the_models() -> None:
    """As LangChain attaches the answer to whatever its reading of it raises."""
    error: Any = AttributeError("no attribute 'output'")
    error.response = httpx.Response(200, text="<html>Sign in</html>")
    with pytest.raises(ModelFailed, match="Sign in") as caught:
        await planner_of(ScriptedModel(script=[error])).plan(new_task())
    assert caught.value.retryable


@pytest.mark.parametrize("said", [{"finish_reason": "error"}, {}])
async def test_an_answer_that_broke_on_its_way_is_a_failure(said: dict[str, str]) -> None:
    """Some clients make an empty answer, without an end, of a body that holds none."""
    broken = AIMessage(content="", response_metadata=said)
    with pytest.raises(ModelFailed) as caught:
        await planner_of(ScriptedModel(script=[broken])).plan(new_task())
    assert caught.value.retryable


async def test_a_budget_of_money_needs_a_price() -> None:
    snapshot = replace(new_task(), allowance=Allowance(cost_micros=10**9))
    with pytest.raises(ModelFailed, match="set ORCHESTRATOR_MODEL_PRICES") as raised:
        await planner_of(ScriptedModel(script=[])).plan(snapshot)
    assert not raised.value.retryable


async def test_the_model_must_use_a_tool() -> None:
    model = ScriptedModel(script=[tool_calls(ASK_CRM)])
    await planner_of(model).plan(new_task())
    assert model.bound[0]["tool_choice"] == "any"


async def test_tools_are_bound_again_only_when_the_agents_change() -> None:
    model = ScriptedModel(script=[tool_calls(ASK_CRM)] * 3)
    catalogue = FixedCatalogue(*AGENTS)
    planner = planner_of(model, catalogue=catalogue)
    await planner.plan(new_task())
    await planner.plan(new_task())
    assert len(model.bound) == 1
    catalogue.known = (CRM,)
    await planner.plan(new_task())
    assert len(model.bound) == 2


async def test_an_agent_that_was_just_added_can_be_called_in_the_next_turn() -> None:
    model = ScriptedModel(script=[tool_calls(ASK_CRM), tool_calls(ASK_CRM)])
    catalogue = FixedCatalogue()
    planner = planner_of(model, catalogue=catalogue)
    assert (await planner.plan(new_task())).is_repair
    catalogue.known = (CRM,)
    assert not (await planner.plan(new_task())).is_repair


async def plan_and_answer(planner: AgenticPlanner, snapshot: Snapshot) -> Snapshot:
    """The task after one turn whose calls all returned."""
    turn = await planner.plan(snapshot)
    snapshot = decided(snapshot, turn)
    assert isinstance(turn.decision, Delegate)
    for call in turn.decision.calls:
        snapshot = answered(snapshot, call.number, {"customer_id": "C-1"})
    return snapshot


async def test_the_next_prompt_begins_with_the_last_one_apart_from_the_state() -> None:
    script = [tool_calls(ASK_CRM), AIMessage(content="Hm."), broken_call("agent_crm", "{")]
    model = ScriptedModel(script=[*script, tool_calls(ASK_CRM, ("list_agents", {}))])
    planner = planner_of(model)
    snapshot = new_task(required=("customer_id", "account_number"))
    for _ in range(4):
        snapshot = event(await plan_and_answer(planner, snapshot), {"note": "x"})
    for earlier, later in zip(model.requests, model.requests[1:], strict=False):
        assert later[: len(earlier) - 1] == earlier[:-1]
        assert len(later) > len(earlier)
        assert later[-1].text.startswith("Context now:")


async def test_equal_snapshots_give_the_same_prompt() -> None:
    model = ScriptedModel(script=[tool_calls(ASK_CRM), tool_calls(ASK_CRM)])
    await planner_of(model).plan(new_task())
    await planner_of(model).plan(new_task())
    assert model.requests[0] == model.requests[1]


async def test_the_model_said_nothing_is_repaired_twice_and_then_fails_the_task() -> None:
    silent = AIMessage(content="", response_metadata={"finish_reason": "stop"})
    planner = planner_of(ScriptedModel(script=[silent] * 3))
    snapshot = new_task()
    for is_last in (False, False, True):
        turn = await planner.plan(snapshot)
        assert isinstance(turn.decision, Fail) is is_last
        assert not isinstance(turn.decision, Complete)
        snapshot = decided(snapshot, turn)
    assert turn.decision == Fail(reason="the model gave no usable decision: its answer was empty")


async def test_the_model_is_told_what_was_wrong() -> None:
    model = ScriptedModel(script=[broken_call("agent_crm", '{"name": '), tool_calls(ASK_CRM)])
    planner = planner_of(model)
    await plan_and_answer(planner, await plan_and_answer(planner, new_task()))
    error = model.requests[1][-2]
    assert error.text.startswith("Error: the arguments of 'agent_crm' are no JSON object")


async def test_a_failure_of_the_model_says_whether_to_come_back() -> None:
    planner = planner_of(ScriptedModel(script=[ModelRateLimitError("slow down")]))
    with pytest.raises(ModelFailed, match="slow down") as caught:
        await planner.plan(new_task())
    assert caught.value.retryable


async def test_whoever_watches_sees_the_prompt_and_the_turn() -> None:
    shown: list[PromptShown] = []
    turn = await planner_of(ScriptedModel(script=[tool_calls(ASK_CRM)]), shown=shown).plan(
        new_task()
    )
    assert [message.role for message in shown[0].messages] == ["system", "human", "human"]
    assert shown[0].turn == turn
    assert "agent_crm" in shown[0].tools
