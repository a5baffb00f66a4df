"""What a model's answer holds beyond its text and calls: how it is journaled and given back.

Pure. Providers put into it what they want back with the next turn: signatures, reasoning, blocks of
their own. It is opaque here: it is stored as it came, and sent as it was stored.
"""

from dataclasses import replace
from typing import Any

from langchain_core.messages import AIMessage
from langchain_core.messages.tool import ToolCall

from orchestrator.domain.decision import Kept, ModelMessage
from orchestrator.domain.json import JsonObject, UnreadableJson, dumped, storable

MAX_BYTES = 512_000
"""Of what is kept of one answer; the largest parts above it are left out, whole."""

CALL_FIELDS = "__call_fields__"
"""The field that holds, for each call, what its endpoint said of it beyond the protocol."""

_METADATA = ("model_provider", "output_version", "container")
"""What the clients of providers look at when they send an answer back."""
_OF_MESSAGES = frozenset(
    {"role", "name", "content", "tool_calls", "function_call", "annotations", "audio"}
)
"""Fields of OpenAI's protocol; with `_OF_CALLS`: what is read elsewhere, or not wanted back."""
_OF_CALLS = frozenset({"id", "type", "index", "function", "name", "arguments"})
_UNDERSTOOD = frozenset({"tool_calls", "function_call", "refusal", "parsed"})
"""Fields of any client that say again what text and calls say."""
_BLOCKS = {"text": {"type", "text"}, "tool_use": {"type", "id", "name", "input"}}
"""Blocks of content of which text and calls say all."""


def fields_of(raw: JsonObject) -> JsonObject:
    """What a message of OpenAI's protocol says beyond the protocol."""
    return {
        name: value
        for name, value in raw.items()
        if name not in _OF_MESSAGES and value not in (None, [], {})
    }


def call_fields_of(raw: JsonObject) -> JsonObject:
    """The same of one of its tool calls."""
    fields = {name: value for name, value in raw.items() if name not in _OF_CALLS}
    function = raw.get("function")
    if isinstance(function, dict) and function.keys() - _OF_CALLS:
        fields["function"] = {n: value for n, value in function.items() if n not in _OF_CALLS}
    return {name: value for name, value in fields.items() if value is not None}


def keep(message: ModelMessage, answer: AIMessage, *, by: str) -> ModelMessage:
    """`message`, with what `answer` holds beyond it."""
    found = _beyond(message, answer)
    if not found:
        return message
    fields, cut = _bounded(found)
    parts: JsonObject = {}
    if "content" in fields:
        parts["content"] = fields.pop("content")
    if fields:
        parts["fields"] = fields
    said = answer.response_metadata
    if told := {name: said[name] for name in _METADATA if said.get(name)}:
        parts["metadata"], beyond = _bounded(told)
        cut += beyond
    return replace(message, kept=Kept(by=by, parts=parts, cut=tuple(cut)))


def give_back(message: ModelMessage, *, calls: list[ToolCall], has_kept: bool) -> AIMessage:
    """The answer for the next prompt; without what was kept where `has_kept` is false."""
    if message.kept is None or not has_kept:
        return AIMessage(content=message.text, tool_calls=calls)
    parts: dict[str, Any] = message.kept.parts
    return AIMessage(
        content=parts.get("content", message.text),
        tool_calls=calls,
        additional_kwargs=dict(parts.get("fields", {})),
        response_metadata=dict(parts.get("metadata", {})),
    )


def without(answer: AIMessage, names: frozenset[str] | None) -> AIMessage:
    """A kept answer without the fields of these names, or with None of all but text and calls."""
    if names is None:
        return AIMessage(content=answer.text, tool_calls=answer.tool_calls)
    fields = {n: value for n, value in answer.additional_kwargs.items() if n not in names}
    if CALL_FIELDS in fields:
        fields[CALL_FIELDS] = [
            {n: value for n, value in call.items() if n not in names}
            for call in fields[CALL_FIELDS]
        ]
    return answer.model_copy(update={"additional_kwargs": fields})


def names_of(answer: AIMessage) -> set[str]:
    """The fields that are given back with it."""
    names = set(answer.additional_kwargs)
    for call in answer.additional_kwargs.get(CALL_FIELDS, ()):
        names.update(call)
    return names


def size_of(answer: AIMessage) -> int:
    """Bytes that are given back beyond text and calls, roughly."""
    blocks: Any = [] if isinstance(answer.content, str) else answer.content
    return sum(len(dumped(part)) for part in (answer.additional_kwargs, blocks) if part)


def _beyond(message: ModelMessage, answer: AIMessage) -> dict[str, Any]:
    found = {
        name: value
        for name, value in answer.additional_kwargs.items()
        if value is not None and name not in _UNDERSTOOD
    }
    if isinstance(answer.content, str) or not any(map(_is_more, answer.content)):
        return found
    # Blocks name their calls: where a call got another id here, they would name one that is gone.
    if _has_own_ids(message, answer):
        found["content"] = answer.content
    return found


def _is_more(block: object) -> bool:
    if not isinstance(block, dict):
        return False
    filled = {name for name, value in block.items() if value or name in ("text", "input")}
    return not filled <= _BLOCKS.get(str(block.get("type")), set())


def _has_own_ids(message: ModelMessage, answer: AIMessage) -> bool:
    given = {call.get("id") for call in (*answer.tool_calls, *answer.invalid_tool_calls)}
    return given == {call["id"] for call in message.tool_calls}


def _bounded(found: dict[str, Any]) -> tuple[JsonObject, list[str]]:
    """What can be stored of it, and why the rest was left out."""
    fields: JsonObject = {}
    cut: list[str] = []
    for name, value in found.items():
        try:
            fields[name] = storable(value)
        except UnreadableJson as error:
            cut.append(f"{name}: {error}")
    sizes = {name: len(dumped(value)) for name, value in fields.items()}
    while sum(sizes.values()) > MAX_BYTES:
        largest = max(sizes, key=sizes.__getitem__)
        cut.append(f"{largest}: {sizes.pop(largest)} bytes, over the bound of {MAX_BYTES}")
        del fields[largest]
    return fields, cut
