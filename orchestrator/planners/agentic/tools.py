"""Decisions as tools: what the model is offered, and which agent stands behind which tool. Pure."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson

from orchestrator.domain.agent import Agent
from orchestrator.domain.ids import AgentId
from orchestrator.domain.json import JsonObject, JsonValue

AGENT_PREFIX = "agent_"
"""No built-in tool begins with it, so no agent's id can hide one."""

MAX_NAME = 64
MAX_DESCRIPTION = 1024
"""Both are limits of OpenAI's API."""

# OpenAI refuses these at the top of a tool's parameters; the agent's own schema is still checked.
_NOT_AT_TOP = frozenset(
    {"$schema", "$id", "oneOf", "anyOf", "allOf", "not", "enum", "if", "then", "else"}
)


def _tool(name: str, description: str, parameters: JsonObject) -> JsonObject:
    function: JsonObject = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": function}


def _parameters(*, required: Sequence[str] = (), **properties: JsonValue) -> JsonObject:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


BUILT_IN: Mapping[str, tuple[str, JsonObject]] = {
    "list_agents": (
        "Lists agents with what they can do, what they add and the input they take. Only for when "
        "no tool that you see fits.",
        _parameters(
            capability={
                "type": "string",
                "description": "Only agents with a capability that contains this",
            }
        ),
    ),
    "update_context": (
        "Writes down values of required fields that the task or an event already states, in its "
        "words. Not needed for what agents return: that is collected by itself. Not possible for "
        "a field that says whom it is from.",
        _parameters(
            collected={
                "type": "object",
                "description": "Required fields and their values",
            },
            state={"type": "string", "description": "Where the task stands, in a few words"},
        ),
    ),
    "wait_for_event": (
        "Lets the task rest until an event brings what is missing. Alone in its answer.",
        _parameters(
            required=["reason"],
            reason={
                "type": "string",
                "minLength": 1,
                "description": "What is needed and from whom, for people",
            },
            until={
                "type": "string",
                "description": "Go on without it at this time, RFC 3339 with an offset",
            },
        ),
    ),
    "complete": (
        "Ends the task as done. Only when every required field is collected. Alone in its answer.",
        _parameters(
            required=["result"],
            result={"type": "object", "description": "What the task asked for"},
        ),
    ),
    "fail": (
        "Ends the task as impossible. Alone in its answer.",
        _parameters(
            required=["reason"],
            reason={"type": "string", "minLength": 1, "description": "Why, for people"},
        ),
    ),
}

CALL_AGENT = "call_agent"
_CALL_AGENT_DESCRIPTION = (
    "Calls one agent. Find its id and the input that it takes with list_agents first."
)
_CALL_AGENT_PARAMETERS = _parameters(
    required=["agent", "input"],
    agent={"type": "string", "description": "The agent's id"},
    input={"type": "object", "description": "What its input schema asks for"},
)

ENDING = ("wait_for_event", "complete", "fail")


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolbox:
    """The tools for one set of agents; the same agents give the same definitions to the letter."""

    definitions: tuple[JsonObject, ...]
    parameters: Mapping[str, JsonObject]
    """Of each tool that is no agent's own."""
    agents: Mapping[AgentId, Agent]
    by_tool: Mapping[str, Agent]
    """Empty where there are too many agents for a tool each."""
    size: int = 0
    """Bytes of the definitions."""

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.parameters, *self.by_tool)


def build_toolbox(agents: Sequence[Agent], *, max_agent_tools: int) -> Toolbox:
    """Built-in tools first and agents in the order of their ids, for the providers' caches."""
    ordered = sorted(agents, key=lambda agent: agent.id)
    has_own_tools = len(ordered) <= max_agent_tools
    general = dict(BUILT_IN)
    if not has_own_tools:
        general[CALL_AGENT] = (_CALL_AGENT_DESCRIPTION, _CALL_AGENT_PARAMETERS)
    by_tool = {tool_name(agent.id): agent for agent in ordered} if has_own_tools else {}
    definitions = (
        *(_tool(name, *described) for name, described in general.items()),
        *(
            _tool(name, describe(agent), _offered(agent.input_schema))
            for name, agent in by_tool.items()
        ),
    )
    return Toolbox(
        definitions=definitions,
        size=len(orjson.dumps(definitions)),
        parameters={name: parameters for name, (_, parameters) in general.items()},
        agents={agent.id: agent for agent in ordered},
        by_tool=by_tool,
    )


def tool_name(agent_id: AgentId) -> str:
    """A name that every provider takes; a hash keeps ids apart that would look alike in it."""
    name = AGENT_PREFIX + re.sub(r"[^a-zA-Z0-9_-]", "_", agent_id)
    if name == AGENT_PREFIX + agent_id and len(name) <= MAX_NAME:
        return name
    digest = hashlib.sha256(agent_id.encode()).hexdigest()[:8]
    return f"{name[: MAX_NAME - 9]}_{digest}"


def describe(agent: Agent) -> str:
    """What the model reads about an agent; it ends with `Adds: …`, the output fields."""
    facts = ""
    if agent.capabilities:
        facts += f" Can: {', '.join(agent.capabilities)}."
    if agent.output_fields:
        facts += f" Adds: {', '.join(agent.output_fields)}."
    own = f"{agent.name}: {agent.description}".strip()
    room = max(MAX_DESCRIPTION - len(facts), 0)
    return (own if len(own) <= room else f"{own[: max(room - 1, 0)]}…") + facts


def list_agents(toolbox: Toolbox, *, capability: str, max_characters: int) -> str:
    """The agents as JSON, as many as fit; what was left out is said."""
    matching = [
        agent
        for agent in toolbox.agents.values()
        if any(capability in has for has in agent.capabilities) or not capability
    ]
    entries: list[str] = []
    room = max_characters
    for agent in matching:
        entry = orjson.dumps(_entry(agent)).decode()
        room -= len(entry)
        if room < 0 and entries:
            break
        entries.append(entry)
    left_out = len(matching) - len(entries)
    note = f"\n{left_out} more: ask for a capability." if left_out else ""
    return f"[{','.join(entries)}]{note}"


def _entry(agent: Agent) -> JsonObject:
    return {
        "id": agent.id,
        "description": describe(agent),
        "capabilities": list(agent.capabilities),
        "adds": list(agent.output_fields),
        "input_schema": agent.input_schema,
    }


def _offered(schema: JsonObject) -> JsonObject:
    kept = {name: value for name, value in schema.items() if name not in _NOT_AT_TOP}
    return {"properties": {}, **kept, "type": "object"}
