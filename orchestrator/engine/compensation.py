"""What a task's end leaves to be undone, and how far that has come: read from the journal (pure).

A task that failed or was cancelled after effects were made does not end at once. Its journal gets a
step that names the calls to be undone, the last effect first; each is a call of that step, made
like any other, one after the other. Whoever takes the task over goes on where the journal ends.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from orchestrator.domain.call import Call, CallStatus
from orchestrator.domain.compensation import Compensation, filled
from orchestrator.domain.decision import Delegate
from orchestrator.domain.ids import Seq, idempotency_key
from orchestrator.domain.json import JsonObject
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.step import (
    CallFinished,
    Cancelled,
    Compensated,
    Compensating,
    Decided,
    Failed,
    Forked,
    Step,
    Undo,
)
from orchestrator.engine.call_states import CallState, call_states

COMPENSATING: JsonObject = {"current_state": "compensating"}
"""Until the task's end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Undoing:
    """A task that is being undone."""

    seq: Seq
    began: datetime
    state: CallState | None
    """The call to be undone next; None when nothing is left."""
    open: Mapping[int, Call]
    """Those without a result, by number."""
    outcome: Failed | Cancelled
    """The end, as it would be now."""


def is_compensating(snapshot: Snapshot) -> bool:
    return _compensating(snapshot) is not None


def begun(
    snapshot: Snapshot, end: Failed | Cancelled, *, has_lost: bool = False
) -> Compensating | None:
    """The step with which the undoing begins; None where there is nothing to undo.

    `has_lost`: results could not be stored, so a call without one may have been made.
    """
    found = _effects(snapshot, has_lost=has_lost)
    effects = sorted(found, reverse=True, key=lambda effect: effect[0])
    if not effects or is_compensating(snapshot):
        return None
    return Compensating(
        status="failed" if isinstance(end, Failed) else "cancelled",
        reason=end.reason,
        code=end.code if isinstance(end, Failed) else "",
        by=end.by if isinstance(end, Cancelled) else "",
        unknown=end.unknown,
        undo=tuple(
            Undo(number=n, agent=_undone_by(call).agent, step=step, call=call.number)
            for n, (_, step, call) in enumerate(effects, 1)
        ),
    )


def undoing(snapshot: Snapshot) -> Undoing | None:
    """How far it has come; None for a task that is not being undone."""
    step = _compensating(snapshot)
    if step is None:
        return None
    assert isinstance(step.body, Compensating)
    after = [s for s in snapshot.steps if s.seq > step.seq]
    calls = {undo.number: _call(snapshot, undo) for undo in step.body.undo}
    states = {s.call.number: s for s in call_states(step.seq, tuple(calls.values()), after)}
    left = [u for u in step.body.undo if u.number in states and not _was_harmless(snapshot, u)]
    return Undoing(
        seq=step.seq,
        began=step.at or snapshot.task.created_at,
        state=states[left[0].number] if left else None,
        open={number: state.call for number, state in states.items()},
        outcome=_outcome(step.body, [_compensated(snapshot, step.seq, u) for u in step.body.undo]),
    )


def _compensating(snapshot: Snapshot) -> Step | None:
    for step in reversed(snapshot.steps):
        if isinstance(step.body, Compensating):
            return step
        if isinstance(step.body, Forked):
            return None
    return None


def _forked_at(snapshot: Snapshot) -> Seq:
    """What the other task did by then is not this one's to undo."""
    forks = (step.seq for step in reversed(snapshot.steps) if isinstance(step.body, Forked))
    return next(forks, Seq(0))


def _effects(snapshot: Snapshot, *, has_lost: bool) -> list[tuple[tuple[Seq, int], Seq, Call]]:
    """Calls that had, or may have had, an effect that can be undone, by when that was known."""
    found, forked_at = [], _forked_at(snapshot)
    for step in snapshot.steps:
        if not isinstance(step.body, Decided) or not isinstance(step.body.decision, Delegate):
            continue
        for call in step.body.decision.calls:
            if call.compensation is None:
                continue
            result = _result(snapshot, step.seq, call.number)
            if has_lost if result is None else may_have_effect(result[1]):
                known_at = snapshot.seq if result is None else result[0]
                if known_at > forked_at:
                    found.append(((known_at, call.number), step.seq, call))
    return found


def _undone_by(call: Call) -> Compensation:
    assert call.compensation is not None, "it was journaled because it has one"
    return call.compensation


def may_have_effect(result: CallFinished) -> bool:
    known = result.status in (CallStatus.ERROR, CallStatus.INPUT_REQUIRED)
    return result.is_unsure or not known


def _result(snapshot: Snapshot, step: Seq, call: int) -> tuple[Seq, CallFinished] | None:
    """The last word about a call."""
    for s in reversed(snapshot.steps):
        if isinstance(s.body, CallFinished) and (s.body.step, s.body.call) == (step, call):
            return s.seq, s.body
    return None


def _was_harmless(snapshot: Snapshot, undo: Undo) -> bool:
    """A late result said that the call, whose outcome was unknown, had no effect."""
    result = _result(snapshot, undo.step, undo.call)
    return result is not None and not may_have_effect(result[1])


def _call(snapshot: Snapshot, undo: Undo) -> Call:
    """The compensating call, with what is known of the one that it undoes."""
    original = _original(snapshot, undo)
    result = _result(snapshot, undo.step, undo.call)
    output = result[1].output if result is not None else {}
    return Call(
        number=undo.number,
        agent=undo.agent,
        input=filled(
            _undone_by(original).input, values={"input": original.input, "output": output}
        ),
        compensates=idempotency_key(snapshot.task.task_id, step=undo.step, call=undo.call),
    )


def _original(snapshot: Snapshot, undo: Undo) -> Call:
    body = next(step.body for step in snapshot.steps if step.seq == undo.step)
    assert isinstance(body, Decided)
    assert isinstance(body.decision, Delegate)
    return next(call for call in body.decision.calls if call.number == undo.call)


def _compensated(snapshot: Snapshot, seq: Seq, undo: Undo) -> Compensated:
    done = Compensated(
        step=undo.step, call=undo.call, agent=_original(snapshot, undo).agent, by=undo.agent
    )
    if _was_harmless(snapshot, undo):
        return replace(done, note="it had no effect")
    result = _result(snapshot, seq, undo.number)
    if result is None or result[1].status is CallStatus.ACCEPTED:
        return replace(done, is_undone=False, note="it was not done in time")
    if result[1].status is not CallStatus.SUCCESS:
        return replace(done, is_undone=False, note=result[1].error or "no reason given")
    return done


def _outcome(body: Compensating, compensated: Sequence[Compensated]) -> Failed | Cancelled:
    if body.status == "cancelled":
        return Cancelled(
            reason=body.reason, by=body.by, unknown=body.unknown, compensated=tuple(compensated)
        )
    return Failed(
        reason=body.reason, code=body.code, unknown=body.unknown, compensated=tuple(compensated)
    )
