"""Which calls of a decision the task's budget pays for, read from its journal (pure).

What fitted when the decision was made, or when the budget was topped up, may have gone out then: it
stays paid until its result is there, also where another call cost more than it declared. Whoever
takes the task over would else take it for a call that was never made.
"""

from collections.abc import Iterator, Sequence, Set
from dataclasses import replace

from orchestrator.domain.call import Call
from orchestrator.domain.decision import Delegate
from orchestrator.domain.event import TOP_UP
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.step import Decided, EventApplied, Step
from orchestrator.engine.budgets import Account, account, fitting
from orchestrator.engine.call_states import CallState, call_states
from orchestrator.engine.options import TaskLimits


def paid_calls(
    snapshot: Snapshot,
    decided: Step,
    states: Sequence[CallState],
    *,
    budget: Account,
    limits: TaskLimits,
) -> Set[int]:
    """Numbers of the calls that may go out; `states` are those of all without a result."""
    calls = [s.call for s in states]
    if budget.left_micros is None:
        return {call.number for call in calls}
    paid = {s.call.number for s in states if s.has_begun}
    surely_unsent = {s.call.number for s in states if s.is_unsent} - paid
    for then in _moments(snapshot, decided):
        left = account(then, limits=limits, now=snapshot.task.created_at).left_micros
        paid |= _fit(_outstanding(then, decided), beside=paid, left_micros=left)
    paid &= {call.number for call in calls} - surely_unsent
    return paid | _fit(calls, beside=paid, left_micros=budget.left_micros)


def _moments(snapshot: Snapshot, decided: Step) -> Iterator[Snapshot]:
    """The task as of the decision, or of the retry that renewed its budget, and of each top-up."""
    began = max(decided.seq, snapshot.current_run[0].seq)
    for n, step in enumerate(snapshot.steps, 1):
        is_top_up = isinstance(step.body, EventApplied) and step.body.event_type == TOP_UP
        if step.seq == began or (step.seq > began and is_top_up):
            yield replace(snapshot, steps=snapshot.steps[:n])


def _outstanding(then: Snapshot, decided: Step) -> list[Call]:
    assert isinstance(decided.body, Decided)
    assert isinstance(decided.body.decision, Delegate)
    after = [step for step in then.steps if step.seq > decided.seq]
    return [s.call for s in call_states(decided.seq, decided.body.decision.calls, after)]


def _fit(calls: Sequence[Call], *, beside: Set[int], left_micros: int | None) -> set[int]:
    """Those that fit into what is left beside the ones that are paid, the first ones first."""
    others = [call for call in calls if call.number not in beside]
    fits = fitting(
        [call.cost_micros for call in others],
        left_micros=left_micros,
        held_micros=sum(call.cost_micros for call in calls if call.number in beside),
    )
    return {call.number for call, fit in zip(others, fits, strict=True) if fit}
