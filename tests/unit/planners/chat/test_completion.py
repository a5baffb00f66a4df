"""A chat completion as it came over HTTP: a good answer is not lost for something beside it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage

from orchestrator.domain.decision import Usage
from orchestrator.domain.ids import Seq
from orchestrator.planners.chat.answer import read_answer, read_model, read_usage, why_unfinished
from orchestrator.planners.chat.completion import read_completion
from orchestrator.planners.chat.kept import keep
from orchestrator.planners.chat.refusal import NoCompletion, judged

CALL = {"id": "a", "type": "function", "function": {"name": "t", "arguments": '{"x": 1}'}}
READ = {"name": "t", "args": {"x": 1}}


def body(message: object, *, usage: object = None, **choice: Any) -> bytes:
    choices = [{"index": 0, "message": message, "finish_reason": "tool_calls", **choice}]
    return json.dumps({"model": "m-1", "choices": choices, "usage": usage}).encode()


def read(message: object, **more: Any) -> AIMessage:
    return read_completion(200, body(message, **more))


def calls_of(answer: AIMessage) -> list[dict[str, Any]]:
    calls = read_answer(answer, seq=Seq(2)).tool_calls
    return [{"name": call["name"], "args": call["args"]} for call in calls]


GOOD: dict[str, Any] = {
    "as it should be": {"role": "assistant", "content": None, "tool_calls": [CALL]},
    "no role": {"tool_calls": [CALL]},
    "another role": {"role": "model", "tool_calls": [CALL]},
    "no id": {"tool_calls": [{**CALL, "id": None}]},
    "a number as id": {"tool_calls": [{**CALL, "id": 7}]},
    "an object as id": {"tool_calls": [{**CALL, "id": {}}]},
    "no type": {"tool_calls": [{"function": CALL["function"]}]},
    "one call and no list": {"tool_calls": CALL},
    "null among the calls": {"tool_calls": [None, CALL, "x"]},
    "no function around it": {"tool_calls": [{"name": "t", "arguments": '{"x": 1}'}]},
    "a function call": {"function_call": CALL["function"]},
    "an object as arguments": {"tool_calls": [{"function": {"name": "t", "arguments": {"x": 1}}}]},
    "a text of a text": {
        "tool_calls": [{"function": {"name": "t", "arguments": '"{\\"x\\": 1}"'}}]
    },
    "a number as content": {"content": 7, "tool_calls": [CALL]},
    "unknown parts": {"content": [{"type": "thinking", "x": [1]}, 7], "tool_calls": [CALL]},
    "unknown fields": {"content": "", "x": {"y": 1}, "tool_calls": [{**CALL, "z": 1}]},
}


@pytest.mark.parametrize("what", GOOD)
def test_a_call_is_read_whatever_is_beside_it(what: str) -> None:
    assert calls_of(read(GOOD[what])) == [READ]


COUNTS: list[tuple[object, Usage]] = [
    ({"prompt_tokens": 7, "completion_tokens": 3}, Usage(input_tokens=7, output_tokens=3)),
    ({"prompt_tokens": "7", "completion_tokens": 3.0}, Usage(input_tokens=7, output_tokens=3)),
    ({"input_tokens": 7, "output_tokens": 3}, Usage(input_tokens=7, output_tokens=3)),
    ({"prompt_tokens": {"a": 1}, "completion_tokens": None}, Usage()),
    ({"prompt_tokens": 7, "prompt_tokens_details": "none"}, Usage(input_tokens=7)),
    ([7, 3], Usage()),
    ("many", Usage()),
    (None, Usage()),
]


@pytest.mark.parametrize(("usage", "counted"), COUNTS)
def test_counts_that_cannot_be_read_lose_no_answer(usage: object, counted: Usage) -> None:
    answer = read({"tool_calls": [CALL]}, usage=usage)
    assert (calls_of(answer), read_usage(answer)) == ([READ], counted)


def test_a_call_is_found_beside_a_choice_that_holds_the_text() -> None:
    choices = [{"message": {"content": "Let me see."}}, None, {"message": {"tool_calls": [CALL]}}]
    answer = read_completion(200, json.dumps({"choices": choices}).encode())
    assert calls_of(answer) == [READ]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda b: b"\xef\xbb\xbf" + b,
        lambda b: b"\n\n  " + b,
        lambda b: b.replace(b"m-1", b"\xff\n"),
    ],
)
def test_bytes_around_an_answer_lose_nothing_of_it(wrap: Any) -> None:
    assert calls_of(read_completion(200, wrap(body({"tool_calls": [CALL]})))) == [READ]


def test_text_in_parts_is_one_text() -> None:
    parts = ["Let ", {"type": "text", "text": "me "}, {"text": "see."}]
    assert read({"content": parts}).content == "Let me see."


def test_what_an_endpoint_adds_to_a_message_and_its_calls_is_kept_with_it() -> None:
    broken = {"id": "b", "function": {"name": "t", "arguments": "{"}}
    message = {
        "reasoning_content": "Hm.",
        "tool_calls": [broken, {**CALL, "extra_content": {"s": 1}}],
    }
    assert read(message).additional_kwargs == {
        "reasoning_content": "Hm.",
        "__call_fields__": [{"extra_content": {"s": 1}}, {}],
    }


@pytest.mark.parametrize("arguments", ["[" * 100_000, "[1]", '"ACME"', "7", "{", '{"x": 1', [1], 7])
def test_arguments_that_are_no_object_are_kept_as_text(arguments: object) -> None:
    answer = read({"tool_calls": [{"id": "a", "function": {"name": "t", "arguments": arguments}}]})
    (call,) = calls_of(answer)
    assert call["args"] == (arguments if isinstance(arguments, str) else json.dumps(arguments))


@pytest.mark.parametrize("digits", ["0.1234567890123456789", "18446744073709551617", "1e400"])
def test_no_number_is_changed_in_arguments_that_are_an_object_nor_in_what_is_kept(
    digits: str,
) -> None:
    call = {"id": "a", "function": {"name": "t", "arguments": {"x": [0]}}}
    said = body({"tool_calls": [call], "extra": {"x": [0]}, "count": 1}).decode()
    answer = read_completion(200, said.replace('{"x": [0]}', f'{{"x": [{digits}]}}').encode())
    (found,) = calls_of(answer)
    assert isinstance(found["args"], str)
    assert found["args"].startswith("x[0]: ")
    assert digits in found["args"]
    message = keep(read_answer(answer, seq=Seq(2)), answer, by="m")
    assert message.kept is not None
    assert message.kept.parts == {"fields": {"count": 1}}
    assert digits in message.kept.cut[0]


def with_digits(said: bytes) -> bytes:
    return said.replace(b"[0]", b"[0.1234567890123456789]")


def test_a_number_that_is_not_kept_is_told_in_arguments_that_are_a_list() -> None:
    said = body({"tool_calls": [{"function": {"name": "t", "arguments": [0]}}]})
    assert "0.1234567890123456789" in str(calls_of(read_completion(200, with_digits(said))))


def test_a_number_that_is_not_kept_is_told_in_an_error() -> None:
    said = with_digits(body({}, error={"message": [0], "code": 502}))
    with pytest.raises(NoCompletion, match=r"0\.1234567890123456789"):
        read_completion(200, said)


@pytest.mark.parametrize("arguments", ["", " ", "null", None, "{}"])
def test_no_arguments_are_an_empty_object(arguments: object) -> None:
    answer = read({"tool_calls": [{"id": "a", "function": {"name": "t", "arguments": arguments}}]})
    assert calls_of(answer) == [{"name": "t", "args": {}}]


def test_an_error_beside_a_good_answer_loses_nothing_of_it() -> None:
    assert calls_of(read({"tool_calls": [CALL]}, error={"message": "late"})) == [READ]


def test_an_error_in_place_of_an_answer_is_one() -> None:
    with pytest.raises(NoCompletion) as caught:
        read({"content": ""}, error={"message": "upstream is gone", "code": 502})
    assert (caught.value.refusal.status, caught.value.refusal.text) == (502, "upstream is gone")


def test_a_refusal_is_told_in_its_own_words() -> None:
    answer = read({"content": None, "refusal": "I can't help with that."}, finish_reason="stop")
    assert read_answer(answer, seq=Seq(2)).text == "I can't help with that."
    assert why_unfinished(answer) == "the model refused"


def test_a_content_filter_is_told_with_what_it_filtered() -> None:
    results = {"hate": {"filtered": True, "severity": "high"}, "violence": {"filtered": False}}
    answer = read({}, finish_reason="content_filter", content_filter_results=results)
    assert why_unfinished(answer) == (
        "a content filter of the provider stopped the answer: content_filter, hate"
    )


@pytest.mark.parametrize("reason", [7, {"a": 1}, None, ["stop"]])
def test_a_reason_that_is_no_text_loses_no_answer(reason: object) -> None:
    answer = read({"tool_calls": [CALL]}, finish_reason=reason)
    assert (calls_of(answer), why_unfinished(answer)) == ([READ], "")


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["id", "type", "text", "name", "function", "arguments", "code", "error"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
NAMES = ["message", "finish_reason", "error", "content_filter_results"]
MESSAGES = st.dictionaries(
    st.sampled_from(["role", "content", "tool_calls", "function_call", "refusal", "x"]), ANYTHING
)


@given(
    message=MESSAGES,
    choice=st.dictionaries(st.sampled_from(NAMES[1:]), ANYTHING),
    beside=st.dictionaries(st.sampled_from(["usage", "error", "model", "code"]), ANYTHING),
)
def test_whatever_an_endpoint_says_is_an_answer_or_none(
    message: dict[str, Any], choice: dict[str, Any], beside: dict[str, Any]
) -> None:
    said = json.dumps({"choices": [{"message": message, **choice}], **beside}).encode()
    try:
        answer = read_completion(200, said)
    except NoCompletion:
        return
    ids = [call["id"] for call in read_answer(answer, seq=Seq(2)).tool_calls]
    assert len(set(ids)) == len(ids)
    read_usage(answer)
    read_model(answer, asked="m")
    why_unfinished(answer)


@given(status=st.sampled_from([200, 204, 302, 400, 401, 404, 429, 500]), body=ANYTHING)
def test_whatever_stands_in_place_of_an_answer_is_told(status: int, body: object) -> None:
    refusal = judged(status, json.dumps(body))
    assert refusal.text
    refusal.fault(has_retry_after=False)
