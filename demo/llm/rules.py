"""Plans by rule what a language model would plan: which tools to call next, from what it is shown.

Pure, and ignorant of any agent: what a tool adds stands in its description (`Adds: …`), what it
needs in its parameters, and how far the task is in the conversation.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
ToolCall = tuple[str, Json]
"""A tool's name and its arguments."""

PLANNING_TOOLS = frozenset(
    {"list_agents", "call_agent", "update_context", "wait_for_event", "complete", "fail"}
)

_WORD = r"(?:[\w'-]|\.(?=\w))*"
_NAME = rf"([A-Z]{_WORD}(?:\s+(?:[A-Z0-9]{_WORD}|&))*)"
_PARTY = r"(?:customer|supplier|client|company|partner|vendor)"

PATTERNS: dict[str, tuple[str, ...]] = {
    "name": (rf"\b{_PARTY}\s+(?:named\s+|called\s+)?{_NAME}", rf"\bfor\s+{_NAME}"),
    "email": (r"\b([\w.+-]+@[\w-]+(?:\.[\w-]+)+)",),
    "country": (r"\bcountry\s+([A-Z]{2})\b", r"\bin\s+([A-Z]{2})\b"),
    "city": (r"\b(?:to|in|from)\s+([A-Z][a-z]+)\b",),
}
"""How a value reads in a task's own words, by what the parameter is called."""

_COMMON_WORDS = frozenset(
    {
        "a",
        "an",
        "and",
        "by",
        "for",
        "from",
        "in",
        "it",
        "its",
        "of",
        "on",
        "or",
        "the",
        "to",
        "with",
    }
)


@dataclass(frozen=True, kw_only=True)
class Tool:
    """An agent, as its tool shows it."""

    name: str
    description: str
    adds: tuple[str, ...]
    properties: tuple[str, ...]
    required: tuple[str, ...]

    @classmethod
    def read(cls, definition: Json) -> "Tool":
        function = definition["function"]
        return cls.of(
            function["name"], function.get("description") or "", function.get("parameters") or {}
        )

    @classmethod
    def of(cls, name: str, description: str, parameters: Json) -> "Tool":
        adds = re.search(r"\bAdds: ([^.]*)", description)
        return cls(
            name=name,
            description=description,
            adds=tuple(f.strip() for f in adds[1].split(",")) if adds else (),
            properties=tuple(parameters.get("properties") or ()),
            required=tuple(parameters.get("required") or ()),
        )


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of the latest call of a tool."""

    status: str
    output: Json = field(default_factory=dict)
    text: str = ""
    is_stale: bool = False
    """An event came after it, so that another try may end differently."""


@dataclass(frozen=True, kw_only=True)
class Situation:
    """Everything the rules look at."""

    task: str
    required: tuple[str, ...]
    missing: tuple[str, ...]
    collected: Json
    events: Json
    tools: tuple[Tool, ...]
    results: dict[str, Result]
    provided_by: Json = field(default_factory=dict)
    """Fields that the task wants from somebody in particular."""

    def value(self, name: str) -> Any:
        """What is known under a parameter's name; None where nothing is."""
        for known in (self.collected, self.events):
            if known.get(name) is not None:
                return known[name]
        return described(name, self.task)

    def lacks(self, tool: Tool) -> tuple[str, ...]:
        return tuple(name for name in tool.required if self.value(name) is None)

    def arguments(self, tool: Tool) -> Json:
        values = {name: self.value(name) for name in tool.properties}
        return {name: value for name, value in values.items() if value is not None}


def described(name: str, task: str) -> str | None:
    """A parameter's value in the words of the task: `name` also serves `customer_name`."""
    for word, patterns in PATTERNS.items():
        if name != word and not name.endswith(f"_{word}"):
            continue
        for pattern in patterns:
            if found := re.search(pattern, task):
                return found[1].rstrip("'-")
    return None


def plan(messages: list[Json], definitions: list[Json]) -> list[ToolCall]:
    """The next tool calls for a conversation and the tools that come with it."""
    names = {definition["function"]["name"] for definition in definitions}
    if "call_agent" not in names:
        return _plan(read_situation(messages, _agent_tools(definitions)))
    agents = _listed(messages)
    if not agents:
        return [("list_agents", {})]
    known = {agent.name for agent in agents}
    return [
        ("call_agent", {"agent": name, "input": arguments}) if name in known else (name, arguments)
        for name, arguments in _plan(read_situation(messages, agents))
    ]


def _plan(situation: Situation) -> list[ToolCall]:
    if not situation.required:
        return _plan_freely(situation)
    if not situation.missing:
        return [("complete", {"result": situation.collected})]
    return _plan_fields(situation)


def _plan_fields(situation: Situation) -> list[ToolCall]:
    """Every tool that is ready and adds something missing; or what stands in the way."""
    calls: dict[str, Json] = {}
    obstacles: list[ToolCall] = []
    for name in situation.missing:
        if (who := situation.provided_by.get(name)) in ("event", "person"):
            obstacles.append(("wait_for_event", {"reason": f"{name} is needed from: {who}"}))
            continue
        tool = _provider(situation, name, seen=frozenset())
        if tool is None:
            obstacles.append(_no_provider(situation, name))
        elif obstacle := _obstacle(situation, tool, name):
            obstacles.append(obstacle)
        else:
            calls[tool.name] = situation.arguments(tool)
    # What can't be done as a whole is not begun, and not waited for.
    for obstacle in obstacles:
        if obstacle[0] == "fail":
            return [obstacle]
    return list(calls.items()) or obstacles[:1]


def _provider(situation: Situation, name: str, *, seen: frozenset[str]) -> Tool | None:
    """The tool to call next on the way to a field: its own, or one that it needs first."""
    adding = [tool for tool in situation.tools if name in tool.adds and tool.name not in seen]
    for tool in sorted(adding, key=lambda tool: -overlap(situation.task, tool.description)):
        lacking = situation.lacks(tool)
        if not lacking:
            return tool
        steps = [_provider(situation, part, seen=seen | {tool.name}) for part in lacking]
        if steps[0] is not None and all(steps):
            return steps[0]
    return None


def _no_provider(situation: Situation, name: str) -> ToolCall:
    adding = [tool for tool in situation.tools if name in tool.adds]
    if not adding:
        return "fail", {"reason": f"no agent can provide {name}"}
    lacking = ", ".join(situation.lacks(adding[0]))
    return "wait_for_event", {"reason": f"{lacking} is needed to get {name}: please provide it"}


def _obstacle(situation: Situation, tool: Tool, name: str) -> ToolCall | None:
    """Why the tool is not called again, from what came of it the last time."""
    result = situation.results.get(tool.name)
    if result is None or result.is_stale:
        return None
    if result.status == "input_required":
        return "wait_for_event", {"reason": result.text or f"{tool.name} needs more input"}
    if result.status == "success":
        return "fail", {"reason": f"{tool.name} answered, but without {name}"}
    return "fail", {"reason": f"{tool.name} failed: {result.text}"}


def _plan_freely(situation: Situation) -> list[ToolCall]:
    """Without required fields: the one tool that fits the task's words best, once."""
    scored = [(overlap(situation.task, tool.description), tool) for tool in situation.tools]
    score, tool = max(scored, key=lambda pair: pair[0], default=(0, None))
    if tool is None or score == 0:
        return [("fail", {"reason": "no agent fits this task"})]
    result = situation.results.get(tool.name)
    if result is not None and result.status == "success":
        return [("complete", {"result": result.output})]
    if obstacle := _obstacle(situation, tool, ""):
        return [obstacle]
    if lacking := situation.lacks(tool):
        return [("wait_for_event", {"reason": f"please provide: {', '.join(lacking)}"})]
    return [(tool.name, situation.arguments(tool))]


def overlap(one: str, other: str) -> int:
    """How many words two texts share, in their stems."""
    return len(_stems(one) & _stems(other))


def _stems(text: str) -> set[str]:
    words = set(re.findall(r"[a-z]+", text.lower())) - _COMMON_WORDS
    return {word[:5] for word in words if len(word) > 2}


def _agent_tools(definitions: list[Json]) -> list[Tool]:
    tools = [Tool.read(definition) for definition in definitions]
    return [tool for tool in tools if tool.name not in PLANNING_TOOLS]


def _listed(messages: list[Json]) -> list[Tool]:
    """The agents of the latest list, where they are too many for a tool each."""
    for message in reversed(messages):
        content = str(message.get("content") or "")
        if message.get("role") == "tool" and content.startswith("["):
            entries, _ = json.JSONDecoder().raw_decode(content)
            return [
                Tool.of(entry["id"], entry["description"], entry["input_schema"])
                for entry in entries
            ]
    return []


def read_situation(messages: list[Json], tools: list[Tool]) -> Situation:
    """The latest state, the task's words and the latest result of each of the tools."""
    state = _state(messages)
    return Situation(
        task=_task(messages),
        required=tuple(state.get("required_fields") or ()),
        missing=tuple(state.get("missing") or ()),
        collected=state.get("collected_data") or {},
        events=state.get("event_data") or {},
        tools=tuple(tools),
        results=_results(messages),
        provided_by=state.get("provided_by") or {},
    )


def _state(messages: list[Json]) -> Json:
    """The latest state; for endpoints that want it so, it stands at the end of a tool's result."""
    for message in reversed(messages):
        if message.get("role") in ("user", "tool"):
            _, label, rest = str(message.get("content") or "").rpartition("Context now:\n```json\n")
            if label:
                return _object_at_start(rest)
    return {}


def _task(messages: list[Json]) -> str:
    """The first user message up to its data, without the label in front."""
    for message in messages:
        if message.get("role") == "user":
            text = str(message.get("content") or "").removeprefix("Task:").strip()
            return text.partition("\n\nRequired fields:")[0]
    return ""


def _results(messages: list[Json]) -> dict[str, Result]:
    names: dict[str, str] = {}
    results: dict[str, Result] = {}
    for index, message in enumerate(messages):
        for call in message.get("tool_calls") or ():
            names[call["id"]] = _called_name(call["function"])
        if message.get("role") == "tool":
            # The last message is the state, which is no news.
            later = messages[index + 1 : -1]
            name = names.get(message.get("tool_call_id", ""), "")
            results[name] = _result(
                str(message.get("content") or ""),
                is_stale=any(other.get("role") == "user" for other in later),
            )
    return results


def _called_name(function: Json) -> str:
    if function["name"] != "call_agent":
        return str(function["name"])
    return str(_object_at_start(function["arguments"]).get("agent"))


def _result(content: str, *, is_stale: bool) -> Result:
    told = _object_at_start(content)
    if "status" not in told:
        return Result(status="error", text=content, is_stale=is_stale)
    output = told.get("output")
    return Result(
        status=str(told["status"]),
        output=output if isinstance(output, dict) else {},
        text=str(told.get("question") or told.get("error") or ""),
        is_stale=is_stale,
    )


def _object_at_start(text: str) -> Json:
    try:
        value, _ = json.JSONDecoder().raw_decode(text.lstrip())
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
