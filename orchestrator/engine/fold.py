"""Messages about a task become steps: what each one changes, and which call it answers (pure)."""

from collections.abc import Mapping, Sequence

from orchestrator.agents.schemas import violations
from orchestrator.domain.agent import Agent
from orchestrator.domain.call import Call, CallStatus
from orchestrator.domain.context import Context, collected
from orchestrator.domain.decision import Delegate
from orchestrator.domain.event import (
    AGENT_RESULT,
    CANCEL,
    CLI,
    GIVEN,
    PAUSE,
    RESUME,
    TOP_UP,
    InboxMessage,
    told_by,
)
from orchestrator.domain.ids import AgentId, Seq
from orchestrator.domain.json import JsonObject
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.step import CallFinished, Compensating, Decided, EventApplied, Step
from orchestrator.engine.compensation import is_compensating, undoing

FOLDED_AT_ONCE = 50
"""Each message looks at all steps so far."""

AGAINST_SCHEMA = "the agent_result holds an output against the agent's schema"
"""As of an output in an agent's own answer; a person who settles a call knows what came of it."""
ITS_ADVICE = "the agent says that a new call may help"
"""Of a late error with `retryable`."""


def fold(
    snapshot: Snapshot, messages: Sequence[InboxMessage], *, agents: Mapping[AgentId, Agent]
) -> list[Step]:
    """One step a message, in order, up to and with the first `cancel`.

    Of an agent that is not in `agents` any more nothing is collected.
    """
    steps: list[Step] = []
    for message in messages:
        step = _step(snapshot, message, agents=agents)
        steps.append(step)
        snapshot = snapshot.after([step])
        if message.event_type == CANCEL and not is_compensating(snapshot):
            break
    return steps


def _step(snapshot: Snapshot, message: InboxMessage, *, agents: Mapping[AgentId, Agent]) -> Step:
    seq = Seq(snapshot.seq + 1)
    if message.event_type == AGENT_RESULT:
        answered = _answered(snapshot, message)
        if answered is not None:
            agent = agents.get(answered.agent)
            return _late_result(seq, message, answered, agent, context=snapshot.context)
    body = EventApplied(
        event_type=message.event_type,
        payload=message.payload,
        source=message.source,
        step=message.step,
        call=message.call,
    )
    if message.event_type in (PAUSE, RESUME) and not is_compensating(snapshot):
        return Step(seq=seq, body=body, change={"current_state": _said(message)})
    if message.event_type in (CANCEL, PAUSE, RESUME, TOP_UP, AGENT_RESULT):
        # A result that nobody waits for (any more) is kept in the journal and changes nothing.
        return Step(seq=seq, body=body)
    return Step(seq=seq, body=body, change=_data_change(snapshot.context, message))


def _data_change(context: Context, message: InboxMessage) -> JsonObject:
    if message.event_type == GIVEN and message.source == CLI:
        data = message.payload.get("data")
        return context.event_change(data if isinstance(data, dict) else {}, by="person")
    return context.event_change(message.payload, by="event")


def _said(message: InboxMessage) -> str:
    """`paused by ops: the CRM is down`, from what the event says."""
    word = "paused" if message.event_type == PAUSE else "resumed"
    by, reason = told_by(message.payload, message.source), message.payload.get("reason")
    who = f" by {by}" if by else ""
    return f"{word}{who}: {reason}" if reason else f"{word}{who}"


def _answered(snapshot: Snapshot, message: InboxMessage) -> Call | None:
    """The unfinished call that the message answers."""
    for index in range(len(snapshot.steps) - 1, -1, -1):
        step = snapshot.steps[index]
        if isinstance(step.body, Compensating) and step.seq == message.step:
            undone = undoing(snapshot)
            return undone.open.get(message.call or 0) if undone is not None else None
        if not isinstance(step.body, Decided):
            continue
        if step.seq != message.step or not isinstance(step.body.decision, Delegate):
            return None
        if any(_is_final(s, step.seq, message.call) for s in snapshot.steps[index + 1 :]):
            return None
        calls = step.body.decision.calls
        return next((c for c in calls if c.number == message.call), None)
    return None


def _is_final(step: Step, decision: Seq, call: int | None) -> bool:
    body = step.body
    return (
        isinstance(body, CallFinished)
        and (body.step, body.call) == (decision, call)
        and body.status.is_final
    )


def _late_result(
    seq: Seq, message: InboxMessage, call: Call, agent: Agent | None, *, context: Context
) -> Step:
    assert message.step is not None
    payload = message.payload
    output = payload.get("output")
    values: JsonObject = output if isinstance(output, dict) else {}
    status = _status(payload.get("status", CallStatus.SUCCESS.value))
    wrong: list[str] = []
    if agent is not None and status is CallStatus.SUCCESS and message.source != CLI:
        wrong = violations(agent.output_schema, values)
    if wrong:
        status = CallStatus.ERROR
    said = payload.get("usage")
    usage = said if isinstance(said, dict) else None
    fields = () if agent is None or call.compensates else agent.output_fields
    found = collected(context.open_to("agent", fields), values)
    return Step(
        seq=seq,
        body=CallFinished(
            step=Seq(message.step),
            call=call.number,
            agent=call.agent,
            status=status,
            output=values,
            error=f"{AGAINST_SCHEMA}: {'; '.join(wrong)}" if wrong else _error(payload, status),
            by=told_by(payload, message.source),
            reason=str(payload.get("reason") or ""),
            usage=usage,
            is_unsure=bool(wrong),
            cost_micros=call.charged(usage),
        ),
        change={"collected_data": found} if found and status is CallStatus.SUCCESS else None,
    )


def _error(payload: JsonObject, status: CallStatus) -> str | None:
    """The agent's words, for the model.

    Work that the agent took on is not given to it again under the same key; that it calls its error
    `retryable` is told to the model, which may decide on a new call.
    """
    said = payload.get("error_message")
    error = None if said is None else str(said)
    if status is CallStatus.ERROR and payload.get("retryable") is True:
        return f"{error or 'no reason given'} ({ITS_ADVICE})"
    return error


def _status(said: object) -> CallStatus:
    """What the agent says of its own work; a word that it should not use is an error of its."""
    final = {s.value: s for s in CallStatus if s.is_final}
    return final.get(said, CallStatus.ERROR) if isinstance(said, str) else CallStatus.ERROR
