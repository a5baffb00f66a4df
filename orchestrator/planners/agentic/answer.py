"""The model's answer in the form in which it is journaled: storable, and every call with an id."""

import math
from typing import Any

from langchain_core.messages import AIMessage

from orchestrator.domain.decision import ModelMessage, Usage
from orchestrator.domain.ids import Seq
from orchestrator.domain.json import (
    JsonObject,
    JsonValue,
    UnreadableJson,
    clean_text,
    kept,
)

MAX_NAME = 200
MAX_TOKENS = 1_000_000_000
"""No turn has that many: a provider that counts more is wrong, and the task must be storable."""


def read_answer(answer: AIMessage, *, seq: Seq) -> ModelMessage:
    """`answer` as the step `seq` will hold it. Calls without an id of their own get one."""
    calls: list[JsonObject] = []
    seen: set[str] = set()
    for call in (*answer.tool_calls, *answer.invalid_tool_calls):
        given = call.get("id")
        call_id = storable_text(given) if given and given not in seen else f"call_{seq}_{len(seen)}"
        seen.add(call_id)
        name = storable_text(call.get("name") or "")
        calls.append({"id": call_id, "name": name, "args": _arguments(call.get("args"))})
    return ModelMessage(text=storable_text(answer.text), tool_calls=tuple(calls))


def read_usage(answer: AIMessage) -> Usage:
    counted = answer.usage_metadata
    if counted is None:
        return Usage()
    return Usage(
        input_tokens=_counted(counted["input_tokens"]),
        output_tokens=_counted(counted["output_tokens"]),
    )


def was_cut(answer: AIMessage) -> bool:
    """Whether it ends where its bound of output tokens was reached, in the words of providers."""
    said = answer.response_metadata
    return said.get("finish_reason") == "length" or said.get("stop_reason") == "max_tokens"


def _counted(tokens: object) -> int:
    """Some providers count in fractions, or in texts; what is no number counts as nothing."""
    if not isinstance(tokens, int | float) or not math.isfinite(tokens):
        return 0
    return int(min(max(0, tokens), MAX_TOKENS))


def read_model(answer: AIMessage, *, asked: str) -> str:
    """The model that answered, as it calls itself; `asked` where it says nothing usable."""
    named = answer.response_metadata.get("model_name")
    return (storable_text(named)[:MAX_NAME] if isinstance(named, str) else "") or asked


def storable_text(text: str) -> str:
    """`text` as PostgreSQL takes it: models do write NUL and lone surrogates."""
    return clean_text(str(text))


def _arguments(args: Any) -> JsonValue:
    """An object; or text, for arguments that are not one, or that can't be kept as they are."""
    if not isinstance(args, dict):
        return storable_text(args) if isinstance(args, str) else ""
    try:
        arguments: JsonObject = kept(args)
    except UnreadableJson as error:
        return storable_text(str(error))
    return arguments
