"""Reads a chat completion as it came over HTTP. Pure.

A good answer is not lost for something beside it: what can't be read of counts, ids, parts and
further choices is left out. What holds no answer raises `NoCompletion`.
"""

import json
from typing import Any

from langchain_core.messages import AIMessage, InvalidToolCall, ToolCall
from langchain_core.messages.ai import UsageMetadata

from orchestrator.domain.json import (
    JsonObject,
    JsonValue,
    UnreadableJson,
    read_json,
    read_loosely,
    storable,
)
from orchestrator.planners.chat.answer import BROKEN_ENDS, counted
from orchestrator.planners.chat.kept import CALL_FIELDS, call_fields_of, fields_of
from orchestrator.planners.chat.refusal import NoCompletion, broken_off, filters_of, judged


def read_completion(http_status: int, body: bytes) -> AIMessage:
    """The message of the completion in `body`.

    Raises:
        NoCompletion: there is none.
    """
    text = body.decode("utf-8", "replace").removeprefix("\ufeff")
    try:
        value = read_loosely(text)
    except (ValueError, RecursionError):
        raise NoCompletion(judged(http_status, text)) from None
    choice = _choice(value)
    if choice is None:
        raise NoCompletion(judged(http_status, text))
    told = choice.get("finish_reason")
    reason = told if isinstance(told, str) else ""
    answer = _message(choice["message"])
    is_empty = not (answer.text or answer.tool_calls or answer.invalid_tool_calls)
    error = choice.get("error") or value.get("error")
    if reason in BROKEN_ENDS or (is_empty and error):
        raise NoCompletion(broken_off(error, reason=reason))
    answer.usage_metadata = _usage(value.get("usage"))
    answer.response_metadata = {
        "model_name": value.get("model"),
        "finish_reason": reason,
        "filtered": filters_of(choice.get("content_filter_results")),
    }
    return answer


def _choice(value: Any) -> dict[str, Any] | None:
    """The first choice that calls a tool, or the first: some endpoints tell the text apart."""
    choices = value.get("choices") if isinstance(value, dict) else None
    usable = [
        choice
        for choice in (choices if isinstance(choices, list) else [choices])
        if isinstance(choice, dict) and isinstance(choice.get("message"), dict)
    ]
    calling = (choice for choice in usable if choice["message"].get("tool_calls"))
    return next(calling, usable[0] if usable else None)


def _message(message: dict[str, Any]) -> AIMessage:
    calls: list[ToolCall] = []
    broken: list[InvalidToolCall] = []
    fields: list[tuple[bool, JsonObject]] = []
    for call in _calls(message):
        function = call.get("function")
        told = function if isinstance(function, dict) else call
        name = told["name"] if isinstance(told.get("name"), str) else ""
        args, call_id = read_arguments(told.get("arguments")), _id(call.get("id"))
        if isinstance(args, dict):
            calls.append(ToolCall(name=name, args=args, id=call_id, type="tool_call"))
        else:
            broken.append(
                InvalidToolCall(
                    name=name, args=args, id=call_id, error=None, type="invalid_tool_call"
                )
            )
        fields.append((not isinstance(args, dict), call_fields_of(call)))
    more = fields_of(message)
    if any(each for _, each in fields):
        # In the order of LangChain, which has the broken ones behind the others.
        more[CALL_FIELDS] = [each for _, each in sorted(fields, key=lambda field: field[0])]
    return AIMessage(
        content=_content(message.get("content")),
        tool_calls=calls,
        invalid_tool_calls=broken,
        additional_kwargs=more,
    )


def _calls(message: dict[str, Any]) -> list[dict[str, Any]]:
    told = message.get("tool_calls") or message.get("function_call") or []
    return [call for call in (told if isinstance(told, list) else [told]) if isinstance(call, dict)]


def _id(given: object) -> str | None:
    if isinstance(given, int) and not isinstance(given, bool):
        return str(given)
    return given if isinstance(given, str) else None


def read_arguments(given: JsonValue) -> JsonObject | str:
    """The arguments as an object, also of a text in a text; as text where they are none."""
    try:
        value = storable(given) if isinstance(given, dict) else _parsed(_parsed(given))
    except UnreadableJson as error:
        return f"{error}, in {given}" if isinstance(given, str) else str(error)
    if value is None or value == "":
        return {}
    if isinstance(value, dict):
        return value
    return given if isinstance(given, str) else json.dumps(given, default=str)


def _parsed(given: JsonValue) -> JsonValue:
    """What a JSON text says; anything else as it is. Raises UnreadableJson for a number in it."""
    if not isinstance(given, str):
        return given
    try:
        return read_json(given)
    except UnreadableJson as error:
        if error.is_number:
            raise
    try:
        value: JsonValue = json.loads(given, strict=False)
    except (ValueError, RecursionError):
        return given.strip()
    return value


def _content(content: object) -> str | list[str | dict[str, Any]]:
    """One text where it is all text, although it may come in parts; else the parts as they are."""
    if not isinstance(content, list):
        return content if isinstance(content, str) else ""
    parts = [part for part in content if isinstance(part, str | dict)]
    texts = [_text(part) for part in parts]
    said = [text for text in texts if text is not None]
    return "".join(said) if len(said) == len(parts) else parts


def _text(part: str | dict[str, Any]) -> str | None:
    """Of a part that is nothing else."""
    if isinstance(part, str):
        return part
    text = part.get("text")
    return text if isinstance(text, str) and part.keys() <= {"type", "text"} else None


def _usage(told: object) -> UsageMetadata | None:
    if not isinstance(told, dict):
        return None
    given = counted(told.get("prompt_tokens") or told.get("input_tokens"))
    made = counted(told.get("completion_tokens") or told.get("output_tokens"))
    return UsageMetadata(input_tokens=given, output_tokens=made, total_tokens=given + made)
