"""A model's answer as it is journaled."""

from typing import Any

import pytest
from langchain_core.messages import AIMessage, InvalidToolCall, ToolCall

from orchestrator.domain.decision import Usage
from orchestrator.domain.ids import Seq
from orchestrator.domain.json import MAX_INTEGER, MIN_INTEGER, JsonValue
from orchestrator.planners.chat.answer import (
    MAX_ID,
    MAX_TOKENS,
    read_answer,
    read_model,
    read_usage,
    why_unfinished,
)
from tests.fakes.model import tool_calls


def read_args(args: dict[str, object]) -> JsonValue:
    answer = AIMessage(content="", tool_calls=[ToolCall(name="t", args=args, id="a")])
    return read_answer(answer, seq=Seq(2)).tool_calls[0]["args"]


def test_what_postgresql_refuses_is_replaced() -> None:
    args = read_args({"a\x00": "x\ud800y\n", "b": [1.5, True, None]})
    assert args == {"a\ufffd": "x\ufffdy\n", "b": [1.5, True, None]}


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_arguments_with_a_number_that_json_does_not_have_count_as_broken(number: float) -> None:
    assert (
        read_args({"a": [1, {"b": number}]}) == f"a[1].b: {number} is not JSON: send null or a text"
    )


def test_arguments_that_are_nested_too_deeply_count_as_broken() -> None:
    deep: dict[str, object] = {}
    for _ in range(100):
        deep = {"x": deep}
    assert read_args(deep) == "nested too deeply: expected at most 64 levels"


def test_broken_arguments_are_kept_as_text_and_calls_get_ids_of_their_own() -> None:
    answer = AIMessage(
        content="Let me see.",
        tool_calls=[ToolCall(name="t", args={}, id="a"), ToolCall(name="t", args={}, id="a")],
        invalid_tool_calls=[
            InvalidToolCall(name=None, args="{x", id=None, error="e", type="invalid_tool_call")
        ],
    )
    message = read_answer(answer, seq=Seq(7))
    assert message.text == "Let me see."
    assert message.tool_calls == (
        {"id": "a", "name": "t", "args": {}},
        {"id": "call_7_1", "name": "t", "args": {}},
        {"id": "call_7_2", "name": "", "args": "{x"},
    )


IDS: dict[str, tuple[tuple[str | None, ...], tuple[str, ...]]] = {
    "equal": (("a", "a", "a"), ("a", "call_7_1", "call_7_2")),
    "absent": ((None, "", None), ("call_7_0", "call_7_1", "call_7_2")),
    "equal once stored": (("a\x00", "a\ud800", "\x00"), ("a\ufffd", "call_7_1", "\ufffd")),
    "given before": (("old", "new"), ("call_7_0", "new")),
    "long": (("x" * MAX_ID, "x" * (MAX_ID + 1)), ("x" * MAX_ID, "call_7_1")),
    "as ours": (("call_7_1", None, "call_7_1"), ("call_7_1", "call_7_2", "call_7_3")),
}


@pytest.mark.parametrize(("given", "kept"), IDS.values(), ids=IDS)
def test_no_two_calls_of_a_task_share_an_id(
    given: tuple[str | None, ...], kept: tuple[str, ...]
) -> None:
    calls = [ToolCall(name="t", args={}, id=call_id) for call_id in given]
    message = read_answer(AIMessage(content="", tool_calls=calls), seq=Seq(7), taken={"old"})
    assert tuple(call["id"] for call in message.tool_calls) == kept


def test_an_id_that_is_ours_and_taken_is_passed_over() -> None:
    answer = AIMessage(content="", tool_calls=[ToolCall(name="t", args={}, id=None)])
    message = read_answer(answer, seq=Seq(7), taken={"call_7_0", "call_7_1"})
    assert message.tool_calls[0]["id"] == "call_7_2"


ENDS: list[tuple[dict[str, Any], str]] = [
    ({"finish_reason": "tool_calls"}, ""),
    ({"finish_reason": "STOP"}, ""),
    ({}, ""),
    ({"stop_reason": "max_tokens"}, "the answer was cut at the bound of its output tokens"),
    ({"finish_reason": "SAFETY"}, "a content filter of the provider stopped the answer: SAFETY"),
    ({"stop_reason": "refusal"}, "a content filter of the provider stopped the answer: refusal"),
    (
        {"finish_reason": "MALFORMED_FUNCTION_CALL"},
        "the answer ended with 'MALFORMED_FUNCTION_CALL'",
    ),
]


@pytest.mark.parametrize(("said", "why"), ENDS)
def test_what_kept_a_model_from_a_decision_is_told(said: dict[str, Any], why: str) -> None:
    assert why_unfinished(AIMessage(content="", response_metadata=said)) == why


def test_tokens_are_counted_where_the_provider_counts() -> None:
    assert read_usage(tool_calls(("t", {}), tokens=(7, 3))) == Usage(
        input_tokens=7, output_tokens=3
    )
    assert read_usage(AIMessage(content="")) == Usage()


def test_a_number_of_tokens_that_no_turn_has_is_cut_to_one_that_can_be_stored() -> None:
    assert read_usage(tool_calls(("t", {}), tokens=(2**63, -1))) == Usage(
        input_tokens=MAX_TOKENS, output_tokens=0
    )


@pytest.mark.parametrize("digits", [20, 309, 4000])
def test_arguments_with_a_number_that_nobody_could_read_again_count_as_broken(digits: int) -> None:
    """PostgreSQL keeps it; orjson refuses a whole journal for it."""
    broken = read_args({"x": {"y": -int("9" * digits)}})
    assert isinstance(broken, str)
    assert broken.startswith("x.y: the integer -999")
    assert read_args({"x": MAX_INTEGER, "y": MIN_INTEGER}) == {"x": 2**64 - 1, "y": -(2**63)}


@pytest.mark.parametrize(
    ("said", "counted"),
    [(12.5, 12), ("12", 12), ("many", 0), (None, 0), (float("nan"), 0), (-1, 0), (True, 1)],
)
def test_tokens_of_any_kind_are_a_number_or_none(said: object, counted: int) -> None:
    answer = AIMessage(content="")
    counts: Any = {"input_tokens": said, "output_tokens": 3, "total_tokens": 3}
    answer.usage_metadata = counts  # as a provider's integration assigns it, unchecked
    assert read_usage(answer) == Usage(input_tokens=counted, output_tokens=3)


@pytest.mark.parametrize(
    ("named", "model"),
    [("m-1", "m-1"), ("m\x00\ud83d", "m\ufffd\ufffd"), (7, "asked"), (None, "asked")],
)
def test_the_model_that_answered_has_a_name_that_can_be_stored(named: object, model: str) -> None:
    answer = AIMessage(content="", response_metadata={"model_name": named})
    assert read_model(answer, asked="asked") == model
