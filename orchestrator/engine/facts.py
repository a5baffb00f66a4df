"""What a runner saw, as steps of the journal and as the task's status (pure)."""

from collections.abc import Mapping
from dataclasses import replace

from orchestrator.domain.agent import Agent
from orchestrator.domain.budget import micros
from orchestrator.domain.call import Call, CallStatus
from orchestrator.domain.decision import Decision, Delegate, Turn
from orchestrator.domain.ids import AgentId, Seq
from orchestrator.domain.json import JsonObject
from orchestrator.domain.step import (
    BudgetSpent,
    CallFinished,
    Cancelled,
    Completed,
    Decided,
    Failed,
)
from orchestrator.domain.task import TaskStatus
from orchestrator.engine.call_states import DueCall
from orchestrator.engine.moves import Sleep
from orchestrator.planners.planner import OverBudget


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
    return (
        call
        if agent is None
        else replace(call, cost_micros=micros(agent.cost), compensation=agent.compensation)
    )


def budget_spent(error: OverBudget) -> BudgetSpent:
    return BudgetSpent(resource=error.resource, needed=error.needed, left=error.left)


def turn_change(turn: Turn) -> JsonObject | None:
    change: JsonObject = {}
    if turn.collected:
        change["collected_data"] = turn.collected
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


def not_made(due: DueCall) -> CallFinished:
    return CallFinished(
        step=due.step,
        call=due.call.number,
        agent=due.call.agent,
        status=CallStatus.ERROR,
        error="it was not made: the task was over",
    )


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
