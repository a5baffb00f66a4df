"""What a task does next, read from its journal alone: the same journal gives the same move.

This is what recovery rests on. A worker that takes a task over reads the journal and goes on where
it ends; nothing is remembered anywhere else.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from orchestrator.domain.call import Call, CallStatus
from orchestrator.domain.decision import Complete, Delegate, Fail, Wait
from orchestrator.domain.event import CANCEL, PAUSE, RESUME
from orchestrator.domain.ids import Seq, idempotency_key
from orchestrator.domain.json import JsonObject
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.step import (
    AttemptFailed,
    CallFinished,
    CallParked,
    CallStarted,
    Cancelled,
    Completed,
    Decided,
    EventApplied,
    Failed,
    Retried,
    Step,
)
from orchestrator.engine.options import TaskLimits
from orchestrator.engine.parked import NONE_PARKED, Parked


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
class Abandon:
    """The task is over: these calls have no result, and nobody waits for one any more."""

    calls: tuple[DueCall, ...]


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
    is_paused: bool = False
    parked_for: tuple[str, ...] = ()
    """Agents and models that can't be called now: when they can, that is the time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """The task is over."""

    outcome: Completed | Failed | Cancelled


Move = MakeCalls | GiveUp | Abandon | Ask | TimeOut | Sleep | Finish


@dataclass(frozen=True, slots=True, kw_only=True)
class _CallState:
    call: Call
    attempts: int = 0
    retry_at: datetime | None = None
    was_started: bool = False
    is_accepted: bool = False
    accepted_until: datetime | None = None
    parked: CallParked | None = None
    note: str = ""
    is_unknown: bool = False
    """It was abandoned: `unknown` stands in the journal as its result."""

    def due(self, seq: Seq) -> DueCall:
        return DueCall(
            step=seq, call=self.call, attempt=self.attempts + 1, was_started=self.was_started
        )


def next_move(
    snapshot: Snapshot, *, now: datetime, limits: TaskLimits, parked: Parked = NONE_PARKED
) -> Move:
    """The one move that follows from journal, clock, limits, and what can't be called now."""
    over = _over(snapshot, now=now, limits=limits)
    if over is not None:
        return _wind_up(snapshot, over)
    if _is_paused(snapshot):
        return Sleep(waiting_for="a resume event", until=ends_at(snapshot, limits), is_paused=True)
    move = _carry_on(snapshot, now=now, parked=parked)
    if isinstance(move, Sleep):
        ends = ends_at(snapshot, limits)
        return replace(move, until=min(move.until, ends) if move.until else ends)
    return move


def is_over(move: Move) -> bool:
    """Whether calls that are under way have to be cut, for the task ends without them."""
    return not isinstance(move, MakeCalls | GiveUp | Sleep)


def finished_calls(snapshot: Snapshot) -> set[tuple[Seq, int]]:
    """Step and number of each call that has its result."""
    return {
        (s.body.step, s.body.call)
        for s in snapshot.steps
        if isinstance(s.body, CallFinished) and s.body.status.is_final
    }


def _over(
    snapshot: Snapshot, *, now: datetime, limits: TaskLimits
) -> Completed | Failed | Cancelled | None:
    """The end that no further step of the task's own changes."""
    for step in snapshot.current_run:
        if isinstance(step.body, EventApplied) and step.body.event_type == CANCEL:
            return _cancelled(step.body.payload)
    exceeded = _exceeded(snapshot, now=now, limits=limits)
    if exceeded is not None and exceeded.code == "limit" and snapshot.context.is_complete:
        # What the last step within the limits brought is not thrown away.
        return Completed(result=_result(snapshot), by="rule")
    return exceeded


def _cancelled(payload: JsonObject) -> Cancelled:
    reason, by = payload.get("reason"), payload.get("by")
    return Cancelled(
        reason="a cancel event" if reason is None else str(reason),
        by="" if by is None else str(by),
    )


def _wind_up(snapshot: Snapshot, outcome: Completed | Failed | Cancelled) -> Abandon | Finish:
    """Calls without a result are journaled as such before the end, which names them."""
    decided, after = _last_decision(snapshot)
    decision = decided.body.decision if decided and isinstance(decided.body, Decided) else None
    if decided is None or not isinstance(decision, Delegate):
        return Finish(outcome=outcome)
    states = _call_states(decided.seq, decision, after)
    left = tuple(s.due(decided.seq) for s in states if not s.is_unknown)
    if left:
        return Abandon(calls=left)
    if isinstance(outcome, Completed):
        return Finish(outcome=outcome)
    task_id = snapshot.task.task_id
    keys = (idempotency_key(task_id, step=decided.seq, call=s.call.number) for s in states)
    return Finish(outcome=replace(outcome, unknown=tuple(keys)))


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
    # What an outage adds is no work of the task.
    steps = sum(not isinstance(step.body, CallParked | CallStarted) for step in run)
    if steps >= limits.max_steps:
        return Failed(code="limit", reason=f"{steps} steps, the limit is {limits.max_steps}")
    budget = limits.max_tokens if task.budget_tokens is None else task.budget_tokens
    if snapshot.tokens >= budget:
        return Failed(code="limit", reason=f"{snapshot.tokens} tokens used, the budget is {budget}")
    return None


def ends_at(snapshot: Snapshot, limits: TaskLimits) -> datetime:
    """When the task's time is up, whatever it does then."""
    run = snapshot.current_run
    began = run[0].at if run and run[0].at is not None else snapshot.task.created_at
    end = began + limits.max_age
    return min(end, snapshot.task.deadline) if snapshot.task.deadline is not None else end


def _is_paused(snapshot: Snapshot) -> bool:
    for step in reversed(snapshot.current_run):
        if isinstance(step.body, EventApplied) and step.body.event_type in (PAUSE, RESUME):
            return step.body.event_type == PAUSE
    return False


def _carry_on(snapshot: Snapshot, *, now: datetime, parked: Parked) -> Move:
    decided, after = _last_decision(snapshot)
    decision = decided.body.decision if decided and isinstance(decided.body, Decided) else None
    match decision:
        case Delegate():
            assert decided is not None
            move = _outstanding(decided.seq, decision, after, now=now, parked=parked)
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
    return _ask(after, now=now, held=parked.get(None))


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


def _ask(after: tuple[Step, ...], *, now: datetime, held: CallParked | None) -> Move:
    """The planner's turn; model failures since the last decision (or retry) delay it."""
    failures: list[AttemptFailed] = []
    for step in after:
        if isinstance(step.body, Retried):
            failures.clear()
        elif isinstance(step.body, AttemptFailed) and step.body.step is None:
            failures.append(step.body)
    if failures and failures[-1].retry_at > now:
        return Sleep(waiting_for="another try of the model", until=failures[-1].retry_at)
    if held is not None and held.until > now:
        return Sleep(waiting_for=held.reason, until=held.until, parked_for=(held.target,))
    return Ask(attempt=len(failures) + 1)


def _outstanding(
    seq: Seq, decision: Delegate, after: tuple[Step, ...], *, now: datetime, parked: Parked
) -> Move | None:
    """What is left of a decision's calls; None when each has its result."""
    states = [
        replace(state, parked=held) if held is not None and held.until > now else state
        for state in _call_states(seq, decision, after)
        for held in (parked.get((seq, state.call.number)),)
    ]
    if not states:
        return None
    due = tuple(
        s.due(seq)
        for s in states
        if not s.is_accepted and s.parked is None and (s.retry_at is None or s.retry_at <= now)
    )
    if due:
        return MakeCalls(calls=due)
    late = tuple(
        (seq, s.call) for s in states if s.accepted_until is not None and s.accepted_until <= now
    )
    if late:
        return GiveUp(calls=late)
    times = [t for s in states if (t := _look_at(s)) is not None]
    return Sleep(
        waiting_for=_waits_for(states),
        until=min(times) if times else None,
        parked_for=tuple(sorted({s.parked.target for s in states if s.parked is not None})),
    )


def _look_at(state: _CallState) -> datetime | None:
    if state.parked is not None and not state.is_accepted:
        return state.parked.until
    return state.accepted_until or state.retry_at


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
            case CallFinished(step=s, call=n, status=CallStatus.UNKNOWN) if (
                s == seq and n in states
            ):
                states[n] = _CallState(
                    call=states[n].call,
                    attempts=states[n].attempts,
                    was_started=True,
                    is_unknown=True,
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
            case CallParked(step=s, call=n) if s == seq and n in states:
                # Of what must not go out twice it is only journaled where it did not go out at all.
                states[n] = replace(states[n], was_started=False)
            case Retried():
                states = {
                    n: replace(s, attempts=0, retry_at=None, is_unknown=False)
                    for n, s in states.items()
                }
            case _:
                pass
    return list(states.values())


def _waits_for(states: list[_CallState]) -> str:
    notes = [s.note for s in states if s.note]
    notes += sorted({s.parked.reason for s in states if s.parked is not None})
    if notes:
        return "; ".join(notes)
    accepted = [s.call.agent for s in states if s.is_accepted]
    if accepted:
        return f"a later answer of {', '.join(sorted(accepted))}"
    return f"another try of {', '.join(sorted(s.call.agent for s in states))}"
