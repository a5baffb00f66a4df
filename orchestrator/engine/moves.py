"""What a task does next, read from its journal alone: the same journal gives the same move.

This is what recovery rests on. A worker that takes a task over reads the journal and goes on where
it ends; nothing is remembered anywhere else.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from orchestrator.domain.call import Call, CallStatus
from orchestrator.domain.decision import Complete, Delegate, Fail, Wait
from orchestrator.domain.event import PAUSE, RESUME
from orchestrator.domain.ids import Seq
from orchestrator.domain.json import JsonObject
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.step import (
    AttemptFailed,
    CallFinished,
    CallStarted,
    Completed,
    Decided,
    EventApplied,
    Failed,
    Retried,
    Step,
)
from orchestrator.engine.options import TaskLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class DueCall:
    """A call of the last decision that has no result yet and may go out now."""

    step: Seq
    call: Call
    attempt: int
    was_started: bool
    """It was journaled as begun: whether it took effect is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeCalls:
    """Make these side by side."""

    calls: tuple[DueCall, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """An agent that promised to answer later did not: end these calls with an error."""

    calls: tuple[tuple[Seq, Call], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Ask the planner."""

    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeOut:
    """A wait is over because its time came."""

    waiting_for: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sleep:
    """Nothing to do before an event comes or this time is there."""

    waiting_for: str
    until: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """The task is over."""

    outcome: Completed | Failed


Move = MakeCalls | GiveUp | Ask | TimeOut | Sleep | Finish


@dataclass(frozen=True, slots=True, kw_only=True)
class _CallState:
    call: Call
    attempts: int = 0
    retry_at: datetime | None = None
    was_started: bool = False
    is_accepted: bool = False
    accepted_until: datetime | None = None
    note: str = ""


def next_move(snapshot: Snapshot, *, now: datetime, limits: TaskLimits) -> Move:
    """The one move that follows from the journal, the clock and the limits."""
    exceeded = _exceeded(snapshot, now=now, limits=limits)
    if exceeded is not None and exceeded.code == "limit" and snapshot.context.is_complete:
        # What the last step within the limits brought is not thrown away.
        return Finish(outcome=Completed(result=_result(snapshot), by="rule"))
    if exceeded is not None:
        return Finish(outcome=exceeded)
    if _is_paused(snapshot):
        return Sleep(waiting_for="a resume event", until=_end(snapshot, limits))
    move = _carry_on(snapshot, now=now)
    if isinstance(move, Sleep):
        ends = _end(snapshot, limits)
        return Sleep(
            waiting_for=move.waiting_for, until=min(move.until, ends) if move.until else ends
        )
    return move


def _exceeded(snapshot: Snapshot, *, now: datetime, limits: TaskLimits) -> Failed | None:
    task = snapshot.task
    run = snapshot.current_run
    if task.deadline is not None and now >= task.deadline:
        return Failed(
            code="deadline", reason=f"not done by its deadline {task.deadline.isoformat()}"
        )
    began = run[0].at if run and run[0].at is not None else task.created_at
    if now >= began + limits.max_age:
        return Failed(code="limit", reason=f"not done within {limits.max_age}")
    if len(run) >= limits.max_steps:
        return Failed(code="limit", reason=f"{len(run)} steps, the limit is {limits.max_steps}")
    budget = limits.max_tokens if task.budget_tokens is None else task.budget_tokens
    if snapshot.tokens >= budget:
        return Failed(code="limit", reason=f"{snapshot.tokens} tokens used, the budget is {budget}")
    return None


def _end(snapshot: Snapshot, limits: TaskLimits) -> datetime:
    """When a waiting task has to be looked at because its time is up."""
    run = snapshot.current_run
    began = run[0].at if run and run[0].at is not None else snapshot.task.created_at
    end = began + limits.max_age
    return min(end, snapshot.task.deadline) if snapshot.task.deadline is not None else end


def _is_paused(snapshot: Snapshot) -> bool:
    for step in reversed(snapshot.current_run):
        if isinstance(step.body, EventApplied) and step.body.event_type in (PAUSE, RESUME):
            return step.body.event_type == PAUSE
    return False


def _carry_on(snapshot: Snapshot, *, now: datetime) -> Move:
    decided, after = _last_decision(snapshot)
    decision = decided.body.decision if decided and isinstance(decided.body, Decided) else None
    match decision:
        case Delegate():
            assert decided is not None
            move = _outstanding(decided.seq, decision, after, now=now)
            if move is not None:
                return move
        case Wait() if not snapshot.context.is_complete and not _was_woken(after):
            if decision.until is not None and now >= decision.until:
                return TimeOut(waiting_for=decision.waiting_for)
            return Sleep(waiting_for=decision.waiting_for, until=decision.until)
        case Wait() | Complete() | Fail() | None:
            pass
    if snapshot.context.is_complete:
        return Finish(outcome=Completed(result=_result(snapshot), by="rule"))
    return _ask(after, now=now)


def _result(snapshot: Snapshot) -> JsonObject:
    data = snapshot.context.collected_data
    return {name: data[name] for name in snapshot.context.required_fields}


def _last_decision(snapshot: Snapshot) -> tuple[Step | None, tuple[Step, ...]]:
    """The last decision, and the steps after it; a retry by a person puts an end to it."""
    steps = snapshot.steps
    for index in range(len(steps) - 1, -1, -1):
        body = steps[index].body
        if isinstance(body, Decided):
            return steps[index], steps[index + 1 :]
        if isinstance(body, Retried) and _was_ended(steps[:index]):
            return None, steps[index + 1 :]
    return None, steps


def _was_ended(steps: tuple[Step, ...]) -> bool:
    for step in reversed(steps):
        if isinstance(step.body, Decided):
            return isinstance(step.body.decision, Complete | Fail)
    return True


def _was_woken(after: tuple[Step, ...]) -> bool:
    return any(
        isinstance(s.body, Retried)
        # A pause that is over tells the planner nothing that it does not know.
        or (isinstance(s.body, EventApplied) and s.body.event_type not in (PAUSE, RESUME))
        for s in after
    )


def _ask(after: tuple[Step, ...], *, now: datetime) -> Move:
    """The planner's turn; model failures since the last decision (or retry) delay it."""
    failures: list[AttemptFailed] = []
    for step in after:
        if isinstance(step.body, Retried):
            failures.clear()
        elif isinstance(step.body, AttemptFailed) and step.body.step is None:
            failures.append(step.body)
    if failures and failures[-1].retry_at > now:
        return Sleep(waiting_for="another try of the model", until=failures[-1].retry_at)
    return Ask(attempt=len(failures) + 1)


def _outstanding(
    seq: Seq, decision: Delegate, after: tuple[Step, ...], *, now: datetime
) -> Move | None:
    """What is left of a decision's calls; None when each has its result."""
    states = _call_states(seq, decision, after)
    if not states:
        return None
    due = tuple(
        DueCall(step=seq, call=s.call, attempt=s.attempts + 1, was_started=s.was_started)
        for s in states
        if not s.is_accepted and (s.retry_at is None or s.retry_at <= now)
    )
    if due:
        return MakeCalls(calls=due)
    late = tuple(
        (seq, s.call) for s in states if s.accepted_until is not None and s.accepted_until <= now
    )
    if late:
        return GiveUp(calls=late)
    times = [t for s in states if (t := s.accepted_until or s.retry_at) is not None]
    return Sleep(waiting_for=_waits_for(states), until=min(times) if times else None)


def _call_states(seq: Seq, decision: Delegate, after: tuple[Step, ...]) -> list[_CallState]:
    """The calls without a final result, as the journal left them."""
    states = {call.number: _CallState(call=call) for call in decision.calls}
    for step in after:
        match step.body:
            case CallFinished(step=s, call=n, status=CallStatus.ACCEPTED) as body if (
                s == seq and n in states
            ):
                states[n] = _CallState(
                    call=states[n].call,
                    attempts=body.attempt,
                    is_accepted=True,
                    accepted_until=body.until,
                    note=body.error or "",
                )
            case CallFinished(step=s, call=n) if s == seq:
                states.pop(n, None)
            case AttemptFailed(step=s, call=n) as body if s == seq and n in states:
                states[n] = _CallState(
                    call=states[n].call, attempts=body.attempt, retry_at=body.retry_at
                )
            case CallStarted(step=s, call=n) if s == seq and n in states:
                before = states[n]
                states[n] = _CallState(call=before.call, attempts=before.attempts, was_started=True)
            case Retried():
                states = {n: replace(s, attempts=0, retry_at=None) for n, s in states.items()}
            case _:
                pass
    return list(states.values())


def _waits_for(states: list[_CallState]) -> str:
    notes = [s.note for s in states if s.note]
    if notes:
        return "; ".join(notes)
    accepted = [s.call.agent for s in states if s.is_accepted]
    if accepted:
        return f"a later answer of {', '.join(sorted(accepted))}"
    return f"another try of {', '.join(sorted(s.call.agent for s in states))}"
