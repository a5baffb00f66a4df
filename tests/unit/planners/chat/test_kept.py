"""What a model's answer holds beyond its text and calls: what is kept of it, and given back."""

import json
from typing import Any

import pytest
from langchain_core.messages import AIMessage, ToolCall

from orchestrator.domain.decision import Delegate, ModelMessage
from orchestrator.domain.ids import Seq
from orchestrator.domain.step import Decided, dump_body, load_body
from orchestrator.planners.chat.answer import read_answer
from orchestrator.planners.chat.kept import MAX_BYTES, give_back, keep
from orchestrator.planners.chat.options import ModelOptions

USE = {"type": "tool_use", "id": "a", "name": "t", "input": {"x": 1}}
THINKING = {"type": "thinking", "thinking": "Hm.", "signature": "U2ln"}


def an_answer(*, call_id: str | None = "a", content: Any = "", **more: Any) -> AIMessage:
    call = ToolCall(name="t", args={"x": 1}, id=call_id)
    return AIMessage(content=content, tool_calls=[call], **more)


def kept(answer: AIMessage) -> ModelMessage:
    return keep(read_answer(answer, seq=Seq(2)), answer, by="openai:m#1")


@pytest.mark.parametrize(
    "answer",
    [
        an_answer(content="I call it."),
        an_answer(content=[{"type": "text", "text": "I call it.", "citations": None}, USE]),
        an_answer(additional_kwargs={"refusal": None, "function_call": {"name": "t"}}),
        an_answer(response_metadata={"model_provider": "anthropic", "id": "msg_1"}),
    ],
    ids=["text", "blocks that say no more", "fields that say no more", "metadata"],
)
def test_an_answer_of_text_and_calls_alone_is_journaled_once(answer: AIMessage) -> None:
    message = kept(answer)
    assert message.kept is None
    body = dump_body(Decided(decision=Delegate(), message=message))
    assert json.loads(body)["message"].keys() == {"text", "tool_calls"}


def test_what_is_kept_survives_the_journal_and_comes_back_as_it_was() -> None:
    answer = an_answer(
        content=[THINKING, USE],
        additional_kwargs={"reasoning_details": [{"n": 1.5}]},
        response_metadata={"model_provider": "anthropic", "id": "msg_1"},
    )
    body = Decided(decision=Delegate(), message=kept(answer))
    again = load_body("decision", json.loads(dump_body(body)))
    assert again == body
    assert isinstance(again, Decided)
    assert again.message is not None
    back = give_back(again.message, calls=answer.tool_calls, has_kept=True)
    assert (back.content, back.additional_kwargs) == (answer.content, answer.additional_kwargs)
    assert back.response_metadata == {"model_provider": "anthropic"}


def test_a_journal_of_an_earlier_release_has_nothing_kept() -> None:
    body = {"decision": {"type": "delegate"}, "message": {"text": "Hm.", "tool_calls": []}}
    read = load_body("decision", body)
    assert isinstance(read, Decided)
    assert read.message == ModelMessage(text="Hm.")


def test_what_is_too_large_is_left_out_whole_and_the_journal_says_so() -> None:
    fields = {"reasoning_content": "x" * (MAX_BYTES + 1), "signature": "U2ln"}
    found = kept(an_answer(additional_kwargs=fields)).kept
    assert found is not None
    assert found.parts == {"fields": {"signature": "U2ln"}}
    assert found.cut == ("reasoning_content: 512003 bytes, over the bound of 512000",)


def test_what_postgresql_can_not_store_is_left_out_of_what_is_kept() -> None:
    deep: Any = "x"
    for _ in range(100):
        deep = [deep]
    fields = {"deep": deep, "reasoning_content": "a\x00b\ud800", "huge": 10**30}
    found = kept(an_answer(additional_kwargs=fields)).kept
    assert found is not None
    assert found.parts == {"fields": {"reasoning_content": "a\ufffdb\ufffd"}}
    assert found.cut == (
        "deep: nested too deeply: expected at most 64 levels",
        f"huge: the integer {10**30} does not fit into 64 bits: send it as a text",
    )


def test_blocks_are_not_kept_where_a_call_got_another_id() -> None:
    content = [THINKING, {**USE, "id": None}]
    answer = an_answer(call_id=None, content=content, additional_kwargs={"n": 1})
    found = kept(answer).kept
    assert found is not None
    assert found.parts == {"fields": {"n": 1}}


def test_a_sender_is_a_model_at_an_endpoint_and_its_address_is_not_told() -> None:
    options = [
        ModelOptions(model="openai:a", base_url="http://user:secret@one/v1"),
        ModelOptions(model="openai:a", base_url="http://two/v1"),
        ModelOptions(model="openai:a"),
        ModelOptions(model="openai:b"),
    ]
    senders = {option.sender for option in options}
    assert len(senders) == 4
    assert not any("secret" in sender or "one" in sender for sender in senders)
    # Stored: journals of this release hold it.
    assert ModelOptions(model="openai:a").sender == "openai:a#e3b0c442"
