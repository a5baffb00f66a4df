"""How requests differ for an endpoint that is not OpenAI's own: what it refuses, what it asks for.

Pure: a request goes in and the same request in another dialect comes out; the text of a refusal
goes in and the switch that answers it comes out. `options.DIALECT` names the switches.
"""

import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage, ToolMessage

Dialect = frozenset[str]
"""Switches that are on."""
Fields = dict[str, Any]

SYSTEM_ROLE = "system-role"
"""Beside the switches of the settings: `system`, where a model's name made it `developer`."""

_MAX_BODY = 20_000
"""Characters of a refusal that are read."""

_DROPPED_BY = {
    "no-tool-choice": ("tool_choice",),
    "no-parallel-tool-calls": ("parallel_tool_calls",),
    "no-temperature": ("temperature",),
    "no-max-tokens": ("max_tokens", "max_completion_tokens", "max_output_tokens"),
}
_BOUNDS = frozenset(_DROPPED_BY["no-max-tokens"])
_SWITCH_OF = {field: switch for switch, fields in _DROPPED_BY.items() for field in fields}
# A server that does not know the newer name of a bound usually knows the older one.
_SWITCH_OF["max_completion_tokens"] = "max-tokens"

# What a bound is refused for may also be its value; then the field itself is no problem.
_UNKNOWN_FIELD = re.compile(
    r"unknown|unsupported|not supported|n[o']t support|unrecogni[sz]ed|unexpected|extra|"
    r"not permitted|not allowed|cannot find|valid field",
    re.IGNORECASE,
)
# In the words of servers: OpenAI's, of chat templates, of Mistral's API, of Ollama, of Gemini's.
_ASKED_FOR: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(words, re.IGNORECASE), switch)
    for words, switch in (
        (r"only supported in v1/responses|supported in the v1/chat/completions", "responses"),
        (r"must alternate|should alternate|unexpected role .{1,20} after role", "merge-messages"),
        (r"system role (is )?not supported|only user and assistant roles", "no-system-role"),
        (r"developer instruction is not enabled", "no-system-role"),
        (r"tool call id.{0,200}length (of )?9", "short-call-ids"),
        (r"content.{0,60}(<nil>|got null|valid string|none is not)", "empty-content"),
        (r"unknown name .{1,40} at .?tools\b", "plain-schemas"),
        (r"additionalproperties.{0,80}(support|allowed|permitted)", "plain-schemas"),
    )
)
# A refusal may quote the whole request, so what it says of a field is looked for elsewhere.
_QUOTING = frozenset({"input", "ctx", "url"})
_QUOTED = re.compile(r"""["']input["']\s*:""")

_PLAIN_KEYWORDS = frozenset(
    {
        *("type", "title", "description", "properties", "required", "items", "anyOf", "enum"),
        *("format", "nullable", "default", "pattern", "minLength", "maxLength"),
        *("minimum", "maximum", "minItems", "maxItems"),
    }
)
_SHORT_ID = re.compile(r"[a-zA-Z0-9]{9}")


def asked_for(refusal: str, *, sent: Collection[str], dialect: Dialect) -> str | None:
    """The switch that answers a refusal of a request with these fields; None where none does."""
    said = _said(refusal[:_MAX_BODY])
    by_name = (
        _SWITCH_OF[field]
        for field in sorted(sent)
        if _names(said, field) and (field not in _BOUNDS or _UNKNOWN_FIELD.search(said))
    )
    by_words = (switch for words, switch in _ASKED_FOR if words.search(said))
    return next((switch for switch in (*by_name, *by_words) if switch not in dialect), None)


def _names(said: str, field: str) -> bool:
    words = field.replace("_", "[ _]")
    return re.search(rf"(?<!\w){words}(?!\w)", said, re.IGNORECASE) is not None


def _said(body: str) -> str:
    try:
        texts = _texts(json.loads(body))
    except (ValueError, RecursionError):
        texts = iter([body])
    # JSON within JSON is common: its quotes are escaped, its own `input` follows what it says.
    return "\n".join(_QUOTED.split(text.replace("\\", ""))[0] for text in texts)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)
    elif isinstance(value, dict):
        for name, part in value.items():
            if name not in _QUOTING:
                yield from _texts(part)


def bound_names(dialect: Dialect) -> Collection[str]:
    """Under which names a request bounds its answer."""
    if "no-max-tokens" in dialect:
        return ()
    return ("max_tokens" if "max-tokens" in dialect else "max_completion_tokens"), (
        "max_output_tokens"
    )


def arranged(messages: Sequence[BaseMessage], dialect: Dialect) -> list[BaseMessage]:
    """The conversation in the roles that the endpoint takes; the model's answers stay as they are.

    What follows a tool's result stands at its end then: an answer of our own in between would teach
    the model to answer without a tool.
    """
    result: list[BaseMessage] = []
    for message in messages:
        into = _taking(message, result[-1], dialect) if result else None
        if into is None:
            result.append(message)
        else:
            result[-1] = into.model_copy(update={"content": f"{into.text}\n\n{message.text}"})
    return result


def _taking(message: BaseMessage, before: BaseMessage, dialect: Dialect) -> BaseMessage | None:
    """What `message` is merged into; None where it stands by itself."""
    if not isinstance(message, HumanMessage):
        return None
    if isinstance(before, SystemMessage) and "no-system-role" in dialect:
        return HumanMessage(content=str(before.text))
    if isinstance(before, HumanMessage | ToolMessage) and "merge-messages" in dialect:
        return before
    return None


def spoken(request: Mapping[str, Any], dialect: Dialect) -> Fields:
    """The request without what the endpoint refuses, and in its words.

    `request` is a body of OpenAI's API, or the part of one that another provider's client takes.
    """
    dropped = {field for switch in dialect for field in _DROPPED_BY.get(switch, ())}
    fields = {name: value for name, value in request.items() if name not in dropped}
    if "max-tokens" in dialect and "max_completion_tokens" in fields:
        fields["max_tokens"] = fields.pop("max_completion_tokens")
    if "plain-schemas" in dialect and "tools" in fields:
        fields["tools"] = [_plain_tool(tool) for tool in fields["tools"]]
    changes = [change for switch, change in _MESSAGE_CHANGES.items() if switch in dialect]
    if changes and "messages" in fields:
        fields["messages"] = [_changed(message, changes) for message in fields["messages"]]
    return fields


def _changed(message: Fields, changes: Sequence[Callable[[Fields], Fields]]) -> Fields:
    for change in changes:
        message = {**message, **change(message)}
    return message


def _with_system_role(message: Fields) -> Fields:
    return {"role": "system"} if message.get("role") == "developer" else {}


def _with_content(message: Fields) -> Fields:
    return {"content": ""} if message.get("content") is None else {}


def _with_short_ids(message: Fields) -> Fields:
    changed: Fields = {}
    if "tool_call_id" in message:
        changed["tool_call_id"] = _short(message["tool_call_id"])
    if message.get("tool_calls"):
        changed["tool_calls"] = [
            {**call, "id": _short(call["id"])} for call in message["tool_calls"]
        ]
    return changed


_MESSAGE_CHANGES = {
    SYSTEM_ROLE: _with_system_role,
    "empty-content": _with_content,
    "short-call-ids": _with_short_ids,
}


def _short(call_id: str) -> str:
    if _SHORT_ID.fullmatch(call_id):
        return call_id
    return hashlib.sha256(call_id.encode()).hexdigest()[:9]


def _plain_tool(tool: Fields) -> Fields:
    if "function" in tool:
        return {**tool, "function": _plain_tool(tool["function"])}
    return {**tool, "parameters": _plain(tool["parameters"])} if "parameters" in tool else tool


def _plain(schema: Any) -> Any:
    """A schema of the keywords that every endpoint knows; answers are checked by the whole one."""
    if not isinstance(schema, dict):
        return {}
    plain = {name: value for name, value in schema.items() if name in _PLAIN_KEYWORDS}
    if isinstance(plain.get("properties"), dict):
        plain["properties"] = {name: _plain(part) for name, part in plain["properties"].items()}
    if "items" in plain:
        plain["items"] = _plain(plain["items"])
    if isinstance(plain.get("anyOf"), list):
        plain["anyOf"] = [_plain(part) for part in plain["anyOf"]]
    if isinstance(plain.get("type"), list):
        kinds = [kind for kind in plain["type"] if kind != "null"]
        plain["type"] = kinds[0] if kinds else "string"
    return plain
