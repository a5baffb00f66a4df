"""Reads a model's answer as a turn: usable calls become a decision, the rest goes back as errors.

Pure. An answer that decides nothing is a repair, never a completion.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from orchestrator.agents.schemas import violations
from orchestrator.domain.agent import Agent
from orchestrator.domain.call import Call
from orchestrator.domain.decision import (
    Complete,
    Decision,
    Delegate,
    Fail,
    ModelMessage,
    Reply,
    Turn,
    Wait,
)
from orchestrator.domain.ids import AgentId
from orchestrator.domain.json import JsonObject, JsonValue
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.step import Decided, Step
from orchestrator.planners.agentic.evidence import is_stated
from orchestrator.planners.agentic.options import AgenticOptions
from orchestrator.planners.agentic.tools import CALL_AGENT, ENDING, Toolbox, list_agents
from orchestrator.planners.chat.answer import CUT

_MAX_QUOTE = 300
_IGNORES_TOOLS = (
    ". No answer called a tool: the endpoint may ignore tools, as llama.cpp's server and others do "
    "where the model's chat template has none; choose a model that can call tools"
)
_WHO = {"agent": "an agent", "event": "an event", "person": "a person"}


def read_turn(
    message: ModelMessage, *, toolbox: Toolbox, snapshot: Snapshot, options: AgenticOptions
) -> Turn:
    """What `message` decides for the task, without the limit on repairs."""
    reading = _Reading(toolbox=toolbox, snapshot=snapshot, options=options)
    for call in message.tool_calls:
        reading.read(str(call["id"]), str(call["name"]), call["args"])
    decision = reading.decision()
    return Turn(
        decision=decision,
        message=message,
        replies=tuple(reading.replies),
        collected=reading.collected,
        state=reading.state,
        is_repair=reading.is_spoilt or not message.tool_calls,
    )


def limit_repairs(
    turn: Turn, *, steps: Sequence[Step], options: AgenticOptions, why: str = ""
) -> Turn:
    """`turn`, or the task's failure where the model had its chances; `steps` are the current run.

    `why` is what kept the model from a decision, where that is known.

    A turn of which some calls could be made goes on: it is counted, and bounded by the steps.
    """
    has_calls = isinstance(turn.decision, Delegate) and bool(turn.decision.calls)
    if not turn.is_repair or has_calls or repairs_in_a_row(steps) < options.max_repairs:
        return turn
    problem = f"{_problem(turn)} ({why})" if why else _problem(turn)
    is_all_text = all(map(_is_text, (*_answers(steps), turn.message)))
    hint = _IGNORES_TOOLS if is_all_text and why in ("", CUT) else ""
    reason = f"the model gave no usable decision: {problem}{hint}"
    return replace(turn, decision=Fail(reason=reason))


def told_why(turn: Turn, why: str) -> Turn:
    """The turn of an unfinished answer: what was wrong with it is told with the cause."""
    replies = tuple(
        replace(reply, text=f"{reply.text} ({why}: say less, or say it otherwise)")
        if reply.is_error
        else reply
        for reply in turn.replies
    )
    return replace(turn, replies=replies)


def repairs_in_a_row(steps: Sequence[Step]) -> int:
    """How many of the last decisions were repairs, whatever else came between them."""
    count = 0
    for step in reversed(steps):
        if isinstance(step.body, Decided):
            if not step.body.is_repair:
                break
            count += 1
    return count


def is_after_text(steps: Sequence[Step]) -> bool:
    """Whether the last decision was plain text."""
    return any(_is_text(message) for message in _answers(steps)[-1:])


def _answers(steps: Sequence[Step]) -> list[ModelMessage | None]:
    return [step.body.message for step in steps if isinstance(step.body, Decided)]


def _is_text(message: ModelMessage | None) -> bool:
    return message is not None and bool(message.text.strip()) and not message.tool_calls


def _problem(turn: Turn) -> str:
    for reply in turn.replies:
        if reply.is_error:
            return reply.text
    text = turn.message.text.strip() if turn.message else ""
    return f"it answered in plain text: {_quote(text)}" if text else "its answer was empty"


def _quote(text: str) -> str:
    return repr(text if len(text) <= _MAX_QUOTE else f"{text[:_MAX_QUOTE]}…")


@dataclass(slots=True, kw_only=True)
class _Reading:
    """One answer while its tool calls are read, in their order."""

    toolbox: Toolbox
    snapshot: Snapshot
    options: AgenticOptions
    calls: list[Call] = field(default_factory=list)
    endings: list[tuple[str, Decision]] = field(default_factory=list)
    """Waits, completions and failures, with the ids of their tool calls."""
    replies: list[Reply] = field(default_factory=list)
    collected: JsonObject = field(default_factory=dict)
    state: str | None = None

    @property
    def is_spoilt(self) -> bool:
        return any(reply.is_error for reply in self.replies)

    def read(self, call_id: str, name: str, args: JsonValue) -> None:
        if not isinstance(args, dict):
            self._refuse(
                call_id, f"the arguments of {name!r} are no JSON object: {_quote(str(args))}"
            )
        elif name in self.toolbox.by_tool:
            self._call(call_id, self.toolbox.by_tool[name], args)
        elif name not in self.toolbox.parameters:
            names = ", ".join(self.toolbox.names)
            self._refuse(call_id, f"there is no tool {name!r}; the tools are: {names}")
        elif problems := violations(self.toolbox.parameters[name], args):
            self._refuse(call_id, f"wrong arguments for {name}: {'; '.join(problems)}")
        else:
            self._built_in(call_id, name, args)

    def _refuse(self, call_id: str, text: str) -> None:
        self.replies.append(Reply(tool_call_id=call_id, text=text, is_error=True))

    def _answer(self, call_id: str, text: str) -> None:
        self.replies.append(Reply(tool_call_id=call_id, text=text))

    def _call(self, call_id: str, agent: Agent, args: JsonObject) -> None:
        if problems := violations(agent.input_schema, args):
            self._refuse(
                call_id, f"agent {agent.id!r} can't take this input: {'; '.join(problems)}"
            )
        elif len(self.calls) >= self.options.max_calls:
            most = self.options.max_calls
            self._refuse(call_id, f"not called: one answer may hold {most} agent calls at most")
        else:
            number = len(self.calls) + 1
            self.calls.append(Call(number=number, agent=agent.id, input=args, tool_call_id=call_id))

    def _built_in(self, call_id: str, name: str, args: JsonObject) -> None:
        if name == CALL_AGENT:
            self._call_by_id(call_id, str(args["agent"]), args["input"])
        elif name == "list_agents":
            self._answer(call_id, self._listing(str(args.get("capability") or "")))
        elif name == "update_context":
            self._update(call_id, args)
        else:
            assert name in ENDING
            self._end(call_id, name, args)

    def _call_by_id(self, call_id: str, agent_id: str, args: JsonValue) -> None:
        agent = self.toolbox.agents.get(AgentId(agent_id))
        if agent is None:
            self._refuse(
                call_id, f"there is no agent {agent_id!r}: list_agents shows which there are"
            )
        else:
            assert isinstance(args, dict)
            self._call(call_id, agent, args)

    def _listing(self, capability: str) -> str:
        return list_agents(
            self.toolbox, capability=capability, max_characters=self.options.output_characters
        )

    def _update(self, call_id: str, args: JsonObject) -> None:
        values = args.get("collected") or {}
        assert isinstance(values, dict)
        given = {name: value for name, value in values.items() if value is not None}
        problems = (self._not_written(name, value) for name, value in given.items())
        if problem := next((text for text in problems if text is not None), None):
            self._refuse(call_id, f"nothing was written: {problem}")
            return
        self.collected |= given
        if args.get("state"):
            self.state = str(args["state"])
        self._answer(call_id, "written")

    def _not_written(self, name: str, value: JsonValue) -> str | None:
        """Why the model may not write this down; None where it may."""
        context = self.snapshot.context
        if name not in context.required_fields:
            allowed = context.labels(context.required_fields)
            return (
                f"{name!r} is no required field ({allowed or 'none, the task requires no field'})"
            )
        if who := context.providers.get(name):
            way = "call an agent that adds it" if who == "agent" else "get it by wait_for_event"
            return f"{name!r} counts only from {_WHO[who]}, not from you: {way}"
        if not is_stated(value, self.snapshot):
            return (
                f"the value of {name!r} stands neither in the task nor in an event or an agent's "
                "answer: write it in their words, or get it from an agent or by wait_for_event"
            )
        return None

    def _end(self, call_id: str, name: str, args: JsonObject) -> None:
        if name == "complete":
            result = args["result"]
            assert isinstance(result, dict)
            self.endings.append((call_id, Complete(result=result)))
        elif name == "fail":
            self.endings.append((call_id, Fail(reason=str(args["reason"]))))
        else:
            self._wait(call_id, str(args["reason"]), args.get("until"))

    def _wait(self, call_id: str, reason: str, until: JsonValue) -> None:
        at = _moment(str(until)) if until else None
        if until and at is None:
            self._refuse(
                call_id,
                f"until is {until!r}; expected RFC 3339 with an offset: 2030-01-31T12:00:00Z",
            )
        else:
            self.endings.append((call_id, Wait(waiting_for=reason, until=at)))

    def decision(self) -> Decision:
        """The one decision of the answer; an ending that can't be it is refused."""
        problem = self._ending_problem()
        if problem is None and self.endings:
            return self.endings[0][1]
        for call_id, _ in self.endings:
            assert problem is not None
            self._refuse(call_id, problem)
        return Delegate(calls=tuple(self.calls))

    def _ending_problem(self) -> str | None:
        if self.calls:
            return (
                "not done: agents were called in the same answer; decide again with their results"
            )
        if self.is_spoilt:
            return "not done: another call of the same answer was wrong; decide again"
        if len(self.endings) > 1:
            return f"not done: choose one of {', '.join(ENDING)}"
        missing = self.snapshot.context.apply({"collected_data": self.collected}).missing
        if missing and any(isinstance(decision, Complete) for _, decision in self.endings):
            return (
                f"not complete: {', '.join(missing)} not collected yet. Call the agents that add "
                "them, use update_context for values that the task or an event states, or fail"
            )
        return None


def _moment(text: str) -> datetime | None:
    """An aware time in UTC; None where `text` is none."""
    try:
        at = datetime.fromisoformat(text)
        return at.astimezone(UTC) if at.tzinfo else None
    except (ValueError, OverflowError):
        return None
