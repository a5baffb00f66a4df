"""A model's answer as it is journaled."""

from langchain_core.messages import AIMessage, InvalidToolCall, ToolCall

from orchestrator.domain.decision import Usage
from orchestrator.domain.ids import Seq
from orchestrator.domain.json import JsonValue
from orchestrator.planners.agentic.answer import MAX_TOKENS, read_answer, read_usage
from tests.fakes.model import tool_calls


def read_args(args: dict[str, object]) -> JsonValue:
    answer = AIMessage(content="", tool_calls=[ToolCall(name="t", args=args, id="a")])
    return read_answer(answer, seq=Seq(2)).tool_calls[0]["args"]


def test_what_postgresql_refuses_is_left_out() -> None:
    args = read_args({"a\x00": "x\ud800y\n", "b": [float("nan"), float("inf"), 1.5, True, None]})
    assert args == {"a": "xy\n", "b": [None, None, 1.5, True, None]}


def test_arguments_that_are_nested_too_deeply_count_as_broken() -> None:
    deep: dict[str, object] = {}
    for _ in range(100):
        deep = {"x": deep}
    assert read_args(deep) == "(nested too deeply)"


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


def test_tokens_are_counted_where_the_provider_counts() -> None:
    assert read_usage(tool_calls(("t", {}), tokens=(7, 3))) == Usage(
        input_tokens=7, output_tokens=3
    )
    assert read_usage(AIMessage(content="")) == Usage()


def test_a_number_of_tokens_that_no_turn_has_is_cut_to_one_that_can_be_stored() -> None:
    assert read_usage(tool_calls(("t", {}), tokens=(2**63, -1))) == Usage(
        input_tokens=MAX_TOKENS, output_tokens=0
    )
