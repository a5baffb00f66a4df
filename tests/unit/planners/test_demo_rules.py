"""The rules by which the demo LLM plans."""

import json
from typing import Any

import pytest

from demo.llm.rules import described, overlap, plan

Json = dict[str, Any]


def tool(name: str, *, adds: str, required: tuple[str, ...] = (), optional: str = "") -> Json:
    properties = (*required, *optional.split())
    return {
        "type": "function",
        "function": {
            "name": name,
            "description": f"Does {name}. Adds: {adds}.",
            "parameters": {
                "required": list(required),
                "properties": {key: {} for key in properties},
            },
        },
    }


TOOLS = [
    tool("crm", adds="customer_id", required=("name",), optional="country"),
    tool("accounts", adds="account_number, iban", required=("customer_id",)),
    tool("screening", adds="screening_result", required=("customer_id", "name")),
    tool("delivery", adds="delivered_at", required=("address",)),
    {"type": "function", "function": {"name": "complete", "description": "Ends. Adds: nothing."}},
]


def conversation(
    *between: Json,
    task: str = "Register the customer ACME",
    required: tuple[str, ...] = ("customer_id",),
    collected: Json | None = None,
    events: Json | None = None,
) -> list[Json]:
    collected = collected or {}
    state = {
        "required_fields": required,
        "missing": [name for name in required if name not in collected],
        "collected_data": collected,
        "event_data": events or {},
    }
    return [
        {"role": "system", "content": "…"},
        {"role": "user", "content": f"Task:\n{task}\n\nRequired fields: …"},
        *between,
        {"role": "user", "content": f"Context now:\n```json\n{json.dumps(state)}\n```\nNext?"},
    ]


def called(name: str, result: Json | str) -> list[Json]:
    content = result if isinstance(result, str) else json.dumps(result)
    call = {"id": "c", "type": "function", "function": {"name": name, "arguments": "{}"}}
    return [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": content},
    ]


EVENT: Json = {"role": "user", "content": 'Event:\n```json\n{"x":1}\n```'}


def test_a_tool_is_called_with_what_the_task_and_its_events_say() -> None:
    calls = plan(conversation(events={"country": "DE"}), TOOLS)
    assert calls == [("crm", {"name": "ACME", "country": "DE"})]


def test_what_is_ready_is_called_side_by_side_and_each_tool_once() -> None:
    required = ("screening_result", "account_number", "iban")
    calls = plan(conversation(required=required, collected={"customer_id": "C"}), TOOLS)
    assert [name for name, _ in calls] == ["screening", "accounts"]


def test_a_field_that_is_needed_on_the_way_is_fetched_first() -> None:
    assert plan(conversation(required=("account_number",)), TOOLS) == [("crm", {"name": "ACME"})]


def test_nothing_missing_completes() -> None:
    calls = plan(conversation(collected={"customer_id": "C"}), TOOLS)
    assert calls == [("complete", {"result": {"customer_id": "C"}})]


def test_a_field_that_no_tool_adds_fails_the_task_before_anything_is_called() -> None:
    calls = plan(conversation(required=("customer_id", "flight_number")), TOOLS)
    assert calls == [("fail", {"reason": "no agent can provide flight_number"})]


def test_a_field_from_outside_is_waited_for_after_what_can_be_done() -> None:
    def planned(**collected: str) -> list[tuple[str, Json]]:
        messages = conversation(required=("customer_id", "approval"), collected=collected)
        provided = '{"provided_by": {"approval": "person"}, '
        messages[-1]["content"] = messages[-1]["content"].replace("{", provided, 1)
        return plan(messages, TOOLS)

    assert [name for name, _ in planned()] == ["crm"]
    waits = ("wait_for_event", {"reason": "approval is needed from: person"})
    assert planned(customer_id="C-1") == [waits]


def test_an_input_that_nobody_has_is_waited_for() -> None:
    [(name, arguments)] = plan(conversation(required=("delivered_at",)), TOOLS)
    assert name == "wait_for_event"
    assert "address" in arguments["reason"]


QUESTION = called("crm", {"status": "input_required", "question": "which country?"})


def test_a_question_of_an_agent_is_waited_for() -> None:
    calls = plan(conversation(*QUESTION), TOOLS)
    assert calls == [("wait_for_event", {"reason": "which country?"})]


def test_after_an_event_the_agent_is_asked_again() -> None:
    calls = plan(conversation(*QUESTION, EVENT, events={"country": "DE"}), TOOLS)
    assert calls == [("crm", {"name": "ACME", "country": "DE"})]


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        ({"status": "error", "error": "boom"}, "crm failed: boom"),
        ("Error: wrong input", "crm failed: Error: wrong input"),
        ({"status": "success", "output": {}}, "crm answered, but without customer_id"),
    ],
)
def test_a_call_that_did_not_help_is_not_repeated(result: Json | str, reason: str) -> None:
    calls = plan(conversation(*called("crm", result)), TOOLS)
    assert calls == [("fail", {"reason": reason})]


def test_without_required_fields_the_fitting_tool_is_called_once() -> None:
    before = conversation(task="Do the crm for customer ACME", required=())
    assert plan(before, TOOLS) == [("crm", {"name": "ACME"})]
    result = called("crm", {"status": "success", "output": {"customer_id": "C"}})
    after = conversation(*result, task="Do the crm for customer ACME", required=())
    assert plan(after, TOOLS) == [("complete", {"result": {"customer_id": "C"}})]


MANY = [
    {"type": "function", "function": {"name": name, "description": ""}}
    for name in ("list_agents", "call_agent", "complete")
]


def test_many_agents_are_listed_first_and_called_by_their_ids() -> None:
    assert plan(conversation(), MANY) == [("list_agents", {})]
    functions = [{**tool["function"], "id": tool["function"]["name"]} for tool in TOOLS[:2]]
    entries = [{**function, "input_schema": function["parameters"]} for function in functions]
    listed = called("list_agents", json.dumps(entries))
    assert plan(conversation(*listed), MANY) == [
        ("call_agent", {"agent": "crm", "input": {"name": "ACME"}})
    ]


@pytest.mark.parametrize(
    ("task", "name"),
    [
        ("Register the customer ACME and open an account", "ACME"),
        ("Onboard the supplier Globex: register it", "Globex"),
        ("Draw up a contract for the customer Foo Bar & Co. Today", "Foo Bar & Co"),
        ("Open an account for Initech.", "Initech"),
        ("book a flight", None),
    ],
)
def test_a_name_is_read_from_the_words_of_the_task(task: str, name: str | None) -> None:
    assert described("customer_name", task) == name


def test_words_are_compared_by_their_stems() -> None:
    assert overlap("Register the customer", "Registers customers and suppliers") == 2
