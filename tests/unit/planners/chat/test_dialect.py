"""What a refusal asks for, in the words of real servers, and what becomes of a request."""

import json
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from orchestrator.planners.chat.dialect import arranged, asked_for, spoken

SENT = {
    "tool_choice",
    "parallel_tool_calls",
    "temperature",
    "max_completion_tokens",
    "max_output_tokens",
}
EXTRA = "Extra inputs are not permitted"


def quoted(field: str) -> str:
    """JSON within JSON, as gateways pass on what their provider said."""
    complaint = {"type": "extra_forbidden", "loc": ["body", field], "msg": EXTRA, "input": True}
    inner = json.dumps({"detail": [complaint]})
    return json.dumps({"object": "error", "message": inner, "code": "1000"})


REFUSALS: dict[str, tuple[str, str | None]] = {
    "Groq": ("property 'parallel_tool_calls' is unsupported", "no-parallel-tool-calls"),
    "Cohere": (
        "unknown field: parameter 'parallel_tool_calls' is not a valid field.",
        "no-parallel-tool-calls",
    ),
    "a gateway's code": (
        "AsyncCompletions.create() got an unexpected keyword argument 'parallel_tool_calls'",
        "no-parallel-tool-calls",
    ),
    "words, not the name": (
        "Parallel tool calls are not supported by this model",
        "no-parallel-tool-calls",
    ),
    "JSON in JSON": (quoted("parallel_tool_calls"), "no-parallel-tool-calls"),
    "JSON in JSON, a bound": (quoted("max_completion_tokens"), "max-tokens"),
    "a list of pydantic's": (
        json.dumps({"detail": [{"loc": ["body", "tool_choice"], "msg": EXTRA}]}),
        "no-tool-choice",
    ),
    "Perplexity": (
        "After the (optional) system message(s), user or tool message(s) should alternate with "
        "assistant message(s).",
        "merge-messages",
    ),
    "Anthropic, behind a gateway": (
        'messages: roles must alternate between "user" and "assistant"',
        "merge-messages",
    ),
    "Gemma": ("Developer instruction is not enabled for models/gemma-3-27b-it", "no-system-role"),
    "a template of Mistral's": (
        "Tool call IDs should be alphanumeric strings with length 9!",
        "short-call-ids",
    ),
    "OpenAI, null": (
        "Invalid value for 'content': expected a string, got null.",
        "empty-content",
    ),
    "a bound that is too large": (
        "'max_tokens' or 'max_completion_tokens' is too large: 16000. This model's maximum context "
        "length is 4096 tokens and your request has 1500 input tokens (16000 > 4096 - 1500).",
        None,
    ),
    "a bound that is out of range": (
        "Invalid max_completion_tokens value, the valid range is [1, 8192]",
        None,
    ),
    "another field": ("Unknown parameter: 'tools'.", None),
    "a longer name": ("Unknown parameter: 'my_tool_choices'.", None),
    "a field that was not sent": ("Unknown parameter: 'top_p'.", None),
    "nothing": ("", None),
    "no text": (json.dumps([None, 1, {"error": True}]), None),
    "brackets without an end": ("[" * 100_000, None),
}


@pytest.mark.parametrize(("said", "switch"), REFUSALS.values(), ids=REFUSALS)
def test_what_a_refusal_asks_for(said: str, switch: str | None) -> None:
    body = said if said[:1] in "[{" else json.dumps({"error": {"message": said}})
    assert asked_for(body, sent=SENT, dialect=frozenset()) == switch
    if switch:
        assert asked_for(body, sent=SENT, dialect=frozenset({switch})) != switch


def test_a_refusal_that_quotes_the_request_names_no_field_by_it() -> None:
    request = {"model": "m", "tool_choice": "required", "parallel_tool_calls": True}
    complaint = {"type": "missing", "loc": ["body", "prompt"], "msg": "Field required"}
    body = {"detail": [{**complaint, "input": request}]}
    assert asked_for(json.dumps(body), sent=SENT, dialect=frozenset()) is None
    told = f"[{{'type': 'missing', 'loc': ('body', 'prompt'), 'input': {request}}}]"
    assert asked_for(json.dumps({"message": told}), sent=SENT, dialect=frozenset()) is None


def test_an_older_name_of_a_bound_that_is_refused_too_is_left_out() -> None:
    said = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
    assert asked_for(said, sent={"max_tokens"}, dialect=frozenset({"max-tokens"})) == (
        "no-max-tokens"
    )


CALLS = AIMessage(
    content="",
    tool_calls=[{"name": "agent_crm", "args": {}, "id": "call_1", "type": "tool_call"}],
)
TALK: list[BaseMessage] = [
    SystemMessage(content="S"),
    HumanMessage(content="task"),
    HumanMessage(content="state"),
    CALLS,
    ToolMessage(content="result", tool_call_id="call_1"),
    HumanMessage(content="event"),
    HumanMessage(content="state"),
]
ARRANGED: dict[str, list[tuple[str, str]]] = {
    "merge-messages": [
        ("system", "S"),
        ("human", "task\n\nstate"),
        ("ai", ""),
        ("tool", "result\n\nevent\n\nstate"),
    ],
    "no-system-role": [
        ("human", "S\n\ntask"),
        ("human", "state"),
        ("ai", ""),
        ("tool", "result"),
        ("human", "event"),
        ("human", "state"),
    ],
}


@pytest.mark.parametrize("switch", ARRANGED)
def test_messages_are_merged_and_the_models_own_stay_as_they_are(switch: str) -> None:
    found = arranged(TALK, frozenset({switch}))
    assert [(message.type, message.text) for message in found] == ARRANGED[switch]
    assert any(message is CALLS for message in found)
    assert arranged(TALK, frozenset()) == TALK


def test_a_schema_is_told_in_the_keywords_that_every_endpoint_knows() -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "const": {"type": ["string", "null"], "const": "x"},
            "list": {"type": "array", "items": {"$ref": "#/$defs/x"}, "uniqueItems": True},
            "any": True,
        },
        "required": ["const"],
    }
    tool = {"type": "function", "function": {"name": "t", "parameters": schema}}
    plain = spoken({"tools": [tool]}, frozenset({"plain-schemas"}))["tools"][0]
    assert plain["function"]["parameters"] == {
        "type": "object",
        "properties": {
            "const": {"type": "string"},
            "list": {"type": "array", "items": {}},
            "any": {},
        },
        "required": ["const"],
    }
    assert "additionalProperties" in schema


def test_ids_of_calls_stay_apart_and_are_the_same_in_each_request() -> None:
    calls = [{"id": f"call_{n}"} for n in range(50)] + [{"id": "abcDEF123"}]
    messages = [{"role": "assistant", "tool_calls": calls}]
    short = spoken({"messages": messages}, frozenset({"short-call-ids"}))["messages"]
    ids = [call["id"] for call in short[0]["tool_calls"]]
    assert len(set(ids)) == 51
    assert {len(each) for each in ids} == {9}
    assert ids[-1] == "abcDEF123"
    assert spoken({"messages": messages}, frozenset({"short-call-ids"}))["messages"] == short
