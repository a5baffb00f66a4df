"""What a task does next, read from its journal alone: the same journal gives the same move.

This is what recovery rests on. A worker that takes a task over reads the journal and goes on where
it ends; nothing is remembered anywhere else.
"""

from collections.abc import Set
from dataclasses import dataclass, replace
from datetime import datetime

from orchestrator.domain.call import Call
from orchestrator.domain.decision import Complete, Delegate, Fail, Wait
from orchestrator.domain.event import CANCEL, PAUSE, RESUME, TOP_UP, told_by
from orchestrator.domain.ids import Seq, idempotency_key
from orchestrator.domain.json import JsonObject
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.step import (
    AttemptFailed,
    CallFinished,
    CallParked,
    Cancelled,
    Completed,
    Decided,
    EventApplied,
    Failed,
    Forked,
    Retried,
    Step,
)
from orchestrator.engine.budgets import (
    Account,
    account,
    at_ceiling,
    why_no_call,
    why_no_turn,
    why_over,
)
from orchestrator.engine.call_states import CallState, DueCall, call_states, look_at, waits_for
from orchestrator.engine.compensation import Undoing, undoing
from orchestrator.engine.options import TaskLimits
from orchestrator.engine.paid import paid_calls
from orchestrator.engine.parked import NONE_PARKED, Parked


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeCalls:
    """Make these side by side, or ask what became of those that can't be made twice."""

    calls: tuple[DueCall, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """An agent that promised to answer later did not: end these calls with an error.

    Those that may never go out twice are not among them: their agents are asked (`MakeCalls`).
    """

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
    is_undoing: bool = False
    parked_for: tuple[str, ...] = ()
    """Agents and models that can't be called now: when they can, that is the time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutOfBudget:
    """What comes next does not fit into the budget: becomes a rest or the task's end."""

    why: str
    is_unmade: bool = False
    """It is about calls that never went out: there is nothing to abandon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """The task is over."""

    outcome: Completed | Failed | Cancelled


Move = MakeCalls | GiveUp | Abandon | Ask | TimeOut | Sleep | Finish


def next_move(
    snapshot: Snapshot, *, now: datetime, limits: TaskLimits, parked: Parked = NONE_PARKED
) -> Move:
    """The one move that follows from journal, clock, limits, and what can't be called now."""
    undo = undoing(snapshot)
    if undo is not None:
        return _undo(undo, until=undo.began + limits.max_age, now=now, parked=parked)
    budget = account(snapshot, limits=limits, now=now)
    end = _end(snapshot, now=now)
    if end is not None:
        return _wind_up(snapshot, end)
    why = why_over(budget)
    if why is None and _is_paused(snapshot):
        rest = Sleep(waiting_for="a resume event", until=None, is_paused=True)
        return _within(rest, snapshot, budget.ends)
    move = (
        OutOfBudget(why=why)
        if why
        else _carry_on(snapshot, budget, limits=limits, now=now, parked=parked)
    )
    match move:
        case Ask() if why := why_no_turn(budget):
            move = OutOfBudget(why=why)
        case Sleep():
            return _within(move, snapshot, budget.ends)
        case _:
            pass
    if isinstance(move, OutOfBudget):
        patience = budget.ends + limits.max_age
        return _out_of_budget(move, snapshot, budget, patience=patience, now=now)
    return move


def _undo(undo: Undoing, *, until: datetime, now: datetime, parked: Parked) -> Move:
    """One effect after the other: neither a budget nor a deadline, a pause or a cancel stops it."""
    if undo.state is None or now >= until:
        return Finish(outcome=undo.outcome)
    states = _with_parked(undo.seq, [undo.state], parked, now=now)
    move = _outstanding(undo.seq, states, {undo.state.call.number}, now=now)
    if not isinstance(move, Sleep):
        return move
    return replace(
        move,
        waiting_for=f"compensating: {move.waiting_for}",
        until=min(move.until, until) if move.until else until,
        is_undoing=True,
    )


def is_over(move: Move) -> bool:
    """Whether calls that are under way have to be cut, for the task ends without them."""
    return not isinstance(move, MakeCalls | GiveUp | Sleep)


def may_be_averted(move: Move) -> bool:
    """Whether a message that was not read yet, a top-up, may take the move back."""
    match move:
        case Finish(outcome=Failed(code="limit")) | Abandon():
            return True
        case _:
            return False


def finished_calls(snapshot: Snapshot) -> set[tuple[Seq, int]]:
    """Step and number of each call that has its result."""
    return {
        (s.body.step, s.body.call)
        for s in snapshot.steps
        if isinstance(s.body, CallFinished) and s.body.status.is_final
    }


def _end(snapshot: Snapshot, *, now: datetime) -> Failed | Cancelled | None:
    """The end that no further step of the task's own changes."""
    for step in snapshot.current_run:
        if isinstance(step.body, EventApplied) and step.body.event_type == CANCEL:
            return _cancelled(step.body)
    deadline = snapshot.task.deadline
    if deadline is not None and now >= deadline:
        return Failed(code="deadline", reason=f"not done by its deadline {deadline.isoformat()}")
    return None


def _cancelled(event: EventApplied) -> Cancelled:
    reason = event.payload.get("reason")
    return Cancelled(
        reason="a cancel event" if reason is None else str(reason),
        by=told_by(event.payload, event.source),
    )


def _wind_up(snapshot: Snapshot, outcome: Completed | Failed | Cancelled) -> Abandon | Finish:
    """Calls without a result are journaled as such before the end, which names them."""
    decided, after = _last_decision(snapshot)
    decision = decided.body.decision if decided and isinstance(decided.body, Decided) else None
    if decided is None or not isinstance(decision, Delegate):
        return Finish(outcome=outcome)
    states = call_states(decided.seq, decision.calls, after)
    left = tuple(s.due(decided.seq) for s in states if not s.is_unknown)
    if left:
        return Abandon(calls=left)
    if isinstance(outcome, Completed):
        return Finish(outcome=outcome)
    task_id = snapshot.task.task_id
    keys = (idempotency_key(task_id, step=decided.seq, call=s.call.number) for s in states)
    return Finish(outcome=replace(outcome, unknown=tuple(keys)))


def _out_of_budget(
    move: OutOfBudget, snapshot: Snapshot, budget: Account, *, patience: datetime, now: datetime
) -> Move:
    if snapshot.context.is_complete:
        # What the last step within the limits brought is not thrown away.
        return _wind_up(snapshot, Completed(result=_result(snapshot), by="rule"))
    if snapshot.task.budget.when_exhausted == "fail" or now >= patience:
        failed = Failed(code="limit", reason=move.why)
        return Finish(outcome=failed) if move.is_unmade else _wind_up(snapshot, failed)
    full = at_ceiling(budget)
    by = f" by `orchestrator tasks top-up` (messages can't raise {full} further)" if full else ""
    return _within(Sleep(waiting_for=f"a top-up{by}: {move.why}", until=None), snapshot, patience)


def _within(sleep: Sleep, snapshot: Snapshot, ends: datetime) -> Sleep:
    """A rest ends at the latest when the task's time is up."""
    times = [t for t in (sleep.until, snapshot.task.deadline, ends) if t is not None]
    return replace(sleep, until=min(times))


def ends_at(snapshot: Snapshot, limits: TaskLimits) -> datetime:
    """When the task's time is up, whatever it does then."""
    task, undo = snapshot.task, undoing(snapshot)
    if undo is not None:
        return undo.began + limits.max_age
    ends = account(snapshot, limits=limits, now=task.created_at).ends
    return min(ends, task.deadline) if task.deadline is not None else ends


def _is_paused(snapshot: Snapshot) -> bool:
    for step in reversed(snapshot.current_run):
        if isinstance(step.body, EventApplied) and step.body.event_type in (PAUSE, RESUME):
            return step.body.event_type == PAUSE
    return False


def _carry_on(
    snapshot: Snapshot, budget: Account, *, limits: TaskLimits, now: datetime, parked: Parked
) -> Move | OutOfBudget:
    decided, after = _last_decision(snapshot)
    decision = decided.body.decision if decided and isinstance(decided.body, Decided) else None
    match decision:
        case Delegate():
            assert decided is not None
            states = _with_parked(
                decided.seq, call_states(decided.seq, decision.calls, after), parked, now=now
            )
            if states:
                paid = paid_calls(snapshot, decided, states, budget=budget, limits=limits)
                if not paid:
                    why = why_no_call(budget, cost_micros=states[0].call.cost_micros)
                    return OutOfBudget(why=why, is_unmade=True)
                return _outstanding(decided.seq, states, paid, now=now)
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
        if isinstance(body, Retried | Forked) and _was_ended(steps[:index]):
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
        or (isinstance(s.body, Forked) and bool(s.body.given))
        # A pause that is over, or a budget, tells the planner nothing that it does not know.
        or (isinstance(s.body, EventApplied) and s.body.event_type not in (PAUSE, RESUME, TOP_UP))
        for s in after
    )


def _ask(after: tuple[Step, ...], *, now: datetime, held: CallParked | None) -> Move:
    """The planner's turn; model failures since the last decision (or retry) delay it."""
    failures: list[AttemptFailed] = []
    for step in after:
        if isinstance(step.body, Retried | Forked):
            failures.clear()
        elif isinstance(step.body, AttemptFailed) and step.body.step is None:
            failures.append(step.body)
    if failures and failures[-1].retry_at > now:
        return Sleep(waiting_for="another try of the model", until=failures[-1].retry_at)
    if held is not None and held.until > now:
        return Sleep(waiting_for=held.reason, until=held.until, parked_for=(held.target,))
    return Ask(attempt=len(failures) + 1)


def _outstanding(
    seq: Seq, states: list[CallState], paid: Set[int], *, now: datetime
) -> MakeCalls | GiveUp | Sleep:
    """What is left of a decision's calls, of which these may go out."""
    due = tuple(
        s.due(seq) for s in states if s.call.number in paid and s.parked is None and s.is_due(now)
    )
    if due:
        return MakeCalls(calls=due)
    late = tuple(
        (seq, s.call) for s in states if s.accepted_until is not None and s.accepted_until <= now
    )
    if late:
        return GiveUp(calls=late)
    times = [t for s in states if (t := look_at(s)) is not None]
    return Sleep(
        waiting_for=waits_for(states),
        until=min(times) if times else None,
        parked_for=tuple(sorted({s.parked.target for s in states if s.parked is not None})),
    )


def _with_parked(
    seq: Seq, states: list[CallState], parked: Parked, *, now: datetime
) -> list[CallState]:
    held = ((s, parked.get((seq, s.call.number))) for s in states)
    return [replace(s, parked=h) if h is not None and h.until > now else s for s, h in held]
