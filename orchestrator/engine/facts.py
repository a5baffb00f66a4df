"""What a runner saw, as steps of the journal and as the task's status; no I/O."""

import random
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from orchestrator.domain.agent import Agent
from orchestrator.domain.budget import micros
from orchestrator.domain.call import Call, CallStatus
from orchestrator.domain.context import Context, collected
from orchestrator.domain.decision import Decision, Delegate, Turn
from orchestrator.domain.errors import ModelFailed
from orchestrator.domain.event import AGENT_RESULT
from orchestrator.domain.fault import Fault
from orchestrator.domain.ids import AgentId, Seq
from orchestrator.domain.json import JsonObject
from orchestrator.domain.retry import RetryPolicy
from orchestrator.domain.step import (
    ATTEMPTS_SPENT,
    MODEL_REFUSED,
    NOBODYS_DECISION,
    AttemptFailed,
    BudgetSpent,
    CallFinished,
    CallStarted,
    Cancelled,
    Completed,
    Decided,
    EventApplied,
    Failed,
)
from orchestrator.domain.task import TaskStatus
from orchestrator.engine.call_states import DueCall
from orchestrator.engine.moves import Sleep
from orchestrator.planners.planner import OverBudget, Unanswered
from orchestrator.store.journal import TaskLetter

NOT_MADE = "it was not made: the task was over"
"""The error of a call that the task ended without."""


def decided_by(turn: Turn) -> Decided:
    return Decided(
        decision=turn.decision,
        message=turn.message,
        replies=turn.replies,
        is_repair=turn.is_repair,
        model=turn.model,
        usage=turn.usage,
        cost_micros=turn.cost_micros,
        duration_ms=turn.duration_ms,
    )


def as_declared(decision: Decision, agents: Mapping[AgentId, Agent]) -> Decision:
    """The decision with what its agents declare now: it counts, whatever they declare later."""
    if not isinstance(decision, Delegate):
        return decision
    return replace(decision, calls=tuple(_declared(c, agents.get(c.agent)) for c in decision.calls))


def _declared(call: Call, agent: Agent | None) -> Call:
    if agent is None:
        return call
    return replace(
        call,
        cost_micros=micros(agent.cost),
        compensation=agent.compensation,
        effects="at_most_once" if is_once(call, agent) else None,
    )


def is_once(call: Call, agent: Agent | None) -> bool:
    """Whether it must never go out twice: its journal says so, or its agent does now.

    What the journal says counts, whatever the agent declares later. Journals of earlier releases
    say nothing of it.
    """
    return "at_most_once" in (call.effects, agent and agent.effects)


def announced(due: DueCall, agent: Agent | None) -> CallStarted | None:
    """What is journaled before the call goes out; None where nothing has to be."""
    once = is_once(due.call, agent)
    if not once and not due.is_unsent:
        return None
    return CallStarted(
        step=due.step,
        call=due.call.number,
        agent=due.call.agent,
        effects="at_most_once" if once else None,
    )


def budget_spent(error: OverBudget) -> BudgetSpent:
    return BudgetSpent(resource=error.resource, needed=error.needed, left=error.left)


def model_failure(
    error: ModelFailed, attempt: int, *, retry: RetryPolicy, now: datetime
) -> AttemptFailed | Failed:
    """Another try of the turn, or the task's end where there is none left."""
    retry_at = None
    if error.retryable:
        retry_at = retry.next_attempt_at(
            attempt,
            now=now,
            retry_after_seconds=error.retry_after_seconds,
            is_limited=error.fault is Fault.LIMITED,
            random=random.random,
        )
    if retry_at is None:
        code = ATTEMPTS_SPENT if error.retryable else MODEL_REFUSED
        return Failed(code=code, reason=f"the model failed: {error}")
    body = AttemptFailed(attempt=attempt, error=str(error), retry_at=retry_at)
    if isinstance(error, Unanswered):
        return replace(body, usage=error.usage, cost_micros=error.cost_micros)
    return body


def came_second(body: CallFinished) -> EventApplied:
    """A result of a call that has one: kept, and nothing changes."""
    payload: JsonObject = {"status": body.status.value, "output": body.output}
    if body.error is not None:
        payload["error_message"] = body.error
    return EventApplied(event_type=AGENT_RESULT, payload=payload, step=body.step, call=body.call)


def turn_change(turn: Turn, context: Context) -> JsonObject | None:
    change: JsonObject = {}
    # Of a field that somebody else provides no planner can say that it is there.
    if found := collected(context.open_to("any", turn.collected), turn.collected):
        change["collected_data"] = found
    state = turn.state
    if state is None and isinstance(turn.decision, Delegate) and turn.decision.calls:
        state = f"calling {', '.join(c.agent for c in turn.decision.calls)}"
    if state is not None:
        change["current_state"] = state
    return change or None


def ending(body: Completed | Failed | Cancelled) -> tuple[TaskStatus, str | None]:
    match body:
        case Completed():
            return TaskStatus.COMPLETED, None
        case Failed(reason=reason):
            return TaskStatus.FAILED, reason
        case Cancelled(reason=reason, by=by):
            return TaskStatus.CANCELLED, f"{reason} ({by})" if by else reason


def letter_of(body: Completed | Failed | Cancelled, *, topic: str) -> TaskLetter | None:
    """What `topic` is told of an end that nobody decided."""
    if isinstance(body, Failed) and body.code in NOBODYS_DECISION:
        return TaskLetter(topic=topic, reason=body.code)
    return None


def not_made(due: DueCall) -> CallFinished:
    return CallFinished(
        step=due.step,
        call=due.call.number,
        agent=due.call.agent,
        status=CallStatus.ERROR,
        error=NOT_MADE,
    )


def no_agent(agent: AgentId) -> str:
    """The error of a call whose agent was removed before it, or another try of it, was made."""
    return f"there is no agent {agent!r} any more"


def was_never_made(body: CallFinished) -> bool:
    """Whether the result says so; the journal has it in its error alone."""
    if body.status is not CallStatus.ERROR or body.is_unsure:
        return False
    return body.error in (NOT_MADE, no_agent(body.agent))


def gave_up(step: Seq, call: Call) -> CallFinished:
    return CallFinished(
        step=step,
        call=call.number,
        agent=call.agent,
        status=CallStatus.ERROR,
        cost_micros=call.cost_micros,
        is_unsure=True,
        error="no answer came within the time that it may take",
    )


def rest_reason(sleep: Sleep, *, state: str) -> str:
    """What the task waits for; of a paused one also who paused it, which its state says."""
    return f"{sleep.waiting_for} ({state})" if sleep.is_paused else sleep.waiting_for
