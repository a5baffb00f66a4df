"""The model's answer in the form in which it is journaled: storable, and every call with an id."""

import math
from collections.abc import Collection
from itertools import chain, count
from typing import Any

from langchain_core.messages import AIMessage

from orchestrator.domain.decision import ModelMessage, Usage
from orchestrator.domain.ids import Seq
from orchestrator.domain.json import (
    JsonObject,
    JsonValue,
    UnreadableJson,
    clean_text,
    storable,
)

MAX_NAME = 200
MAX_ID = 32_000
"""Some gateways carry a signature of some thousand characters in the id, and want it back."""
MAX_DIGITS = 20
MAX_TOKENS = 1_000_000_000
"""No turn has that many: a provider that counts more is wrong, and the task must be storable."""

CUT = "the answer was cut at the bound of its output tokens"
BROKEN_ENDS = frozenset({"error", "network_error"})
"""An answer that ended so broke on its way: that is no decision of the model's."""
_CUT_ENDS = frozenset({"length", "max_tokens", "MAX_TOKENS"})
_FILTERED_ENDS = frozenset(
    {"content_filter", "refusal", "safety", "recitation", "blocklist", "prohibited_content"}
    | {"spii", "sensitive", "image_safety", "guardrail_intervened", "content_filtered"}
)
_USUAL_ENDS = frozenset(
    {"stop", "tool_calls", "function_call", "end_turn", "tool_use", "stop_sequence", "completed"}
)


def read_answer(
    answer: AIMessage, *, seq: Seq, taken: Collection[str] = frozenset()
) -> ModelMessage:
    """`answer` as the step `seq` will hold it.

    No two calls of a task share an id, or a result could be shown with another's call: a call
    without one, or with one of `taken` (the ids of the task so far), gets one of our own.
    """
    calls: list[JsonObject] = []
    seen = set(taken)
    for call in (*answer.tool_calls, *answer.invalid_tool_calls):
        given = storable_text(told) if isinstance(told := call.get("id"), str) else ""
        ours = (f"call_{seq}_{number}" for number in count(len(calls)))
        candidates = chain([given] if 0 < len(given) <= MAX_ID else [], ours)
        call_id = next(each for each in candidates if each not in seen)
        seen.add(call_id)
        name = storable_text(call.get("name") or "")
        calls.append({"id": call_id, "name": name, "args": _arguments(call.get("args"))})
    text = answer.text or _refusal(answer)
    return ModelMessage(text=storable_text(str(text)), tool_calls=tuple(calls))


def _refusal(answer: AIMessage) -> str:
    """The words with which the model refused, which providers keep apart from its text."""
    said = answer.additional_kwargs.get("refusal")
    return said if isinstance(said, str) else ""


def read_usage(answer: AIMessage) -> Usage:
    told = answer.usage_metadata
    if told is None:
        return Usage()
    return Usage(
        input_tokens=counted(told.get("input_tokens")),
        output_tokens=counted(told.get("output_tokens")),
    )


def counted(tokens: object) -> int:
    """Some providers count in fractions, or in texts; what is no number counts as nothing."""
    if isinstance(tokens, str) and tokens.isdecimal() and len(tokens) < MAX_DIGITS:
        tokens = int(tokens)
    if not isinstance(tokens, int | float) or not math.isfinite(tokens):
        return 0
    return int(min(max(0, tokens), MAX_TOKENS))


def end_of(answer: AIMessage) -> str:
    """How it ended, in the words of its provider; empty where that is not said."""
    said = answer.response_metadata
    ends = (said.get(name) for name in ("finish_reason", "stop_reason", "done_reason"))
    return next((end for end in ends if isinstance(end, str) and end), "")


def why_unfinished(answer: AIMessage) -> str:
    """What kept the model from a decision, for people and for the model; empty where nothing did.

    Told with an answer that is unusable: it may be usable all the same.
    """
    end = storable_text(end_of(answer))[:MAX_NAME]
    if end in _CUT_ENDS:
        return CUT
    if end.lower() in _FILTERED_ENDS:
        filtered = answer.response_metadata.get("filtered") or []
        by = ", ".join([end, *(storable_text(str(name))[:MAX_NAME] for name in filtered)])
        return f"a content filter of the provider stopped the answer: {by}"
    if _refusal(answer):
        return "the model refused"
    return "" if not end or end.lower() in _USUAL_ENDS else f"the answer ended with {end!r}"


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
        arguments: JsonObject = storable(args)
    except UnreadableJson as error:
        return storable_text(str(error))
    return arguments
