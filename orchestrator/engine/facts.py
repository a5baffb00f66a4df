"""What a runner saw, as steps of the journal and as the task's status (pure)."""

from orchestrator.domain.call import CallStatus
from orchestrator.domain.decision import Delegate, Turn
from orchestrator.domain.ids import AgentId, Seq
from orchestrator.domain.json import JsonObject
from orchestrator.domain.step import CallFinished, Cancelled, Completed, Decided, Failed
from orchestrator.domain.task import TaskStatus
from orchestrator.engine.moves import DueCall


def decided_by(turn: Turn) -> Decided:
    return Decided(
        decision=turn.decision,
        message=turn.message,
        replies=turn.replies,
        is_repair=turn.is_repair,
        model=turn.model,
        usage=turn.usage,
        duration_ms=turn.duration_ms,
    )


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


def gave_up(step: Seq, call: int, agent: AgentId) -> CallFinished:
    return CallFinished(
        step=step,
        call=call,
        agent=agent,
        status=CallStatus.ERROR,
        error="no answer came within the time that it may take",
    )
