"""What a task may still use, added up from its journal alone: a restart resets nothing (pure).

Money is set aside before it is spent: a call's declared cost from the decision that makes it until
its result tells the real one, a turn's from the planner's own estimate. So calls side by side stay
within the budget together.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import TypeVar

from orchestrator.domain.budget import MAX_COST, Allowance, Amounts, micros, money_text
from orchestrator.domain.event import CLI, TOP_UP
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.step import (
    AttemptFailed,
    BudgetSpent,
    CallFinished,
    CallParked,
    CallStarted,
    Decided,
    EventApplied,
)
from orchestrator.domain.task import Task
from orchestrator.engine.options import TaskLimits

N = TypeVar("N", int, float)

HEADROOM = 10
"""How often the limit of a task without a budget a task may ask for, where no ceiling is set."""

MAX_SECONDS = 1e10
"""However often it is topped up: three centuries, well within what a date can be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A task's budget at one moment; those of its calls that have no result are not in `used`."""

    allowed: Amounts
    used: Amounts
    is_cost_bounded: bool
    """Else `allowed.cost_micros` says nothing."""
    began: datetime
    most: Amounts
    """How far messages can raise `allowed`; commands can raise it further."""
    spent: BudgetSpent | None = None
    """The planner's word that its turn does not fit; a top-up takes it back."""

    @property
    def ends(self) -> datetime:
        """When the task's wall time is over."""
        return self.began + timedelta(seconds=self.allowed.seconds)

    @property
    def allowance(self) -> Allowance:
        """What the next turn may use. No call is outstanding while the planner is asked."""
        return Allowance(
            tokens=max(0, self.allowed.tokens - self.used.tokens), cost_micros=self.left_micros
        )

    @property
    def left_micros(self) -> int | None:
        if not self.is_cost_bounded:
            return None
        return max(0, self.allowed.cost_micros - self.used.cost_micros)


def account(snapshot: Snapshot, *, limits: TaskLimits, now: datetime) -> Account:
    """The task's account; a person's retry opens a new one with the budget it came with."""
    run = snapshot.current_run
    began = run[0].at if run and run[0].at is not None else snapshot.task.created_at
    most = _ceilings(limits)
    allowed, spent = _allowed(snapshot.task, limits, most), None
    steps = attempts = tokens = cost_micros = 0

    def used(at: datetime) -> Amounts:
        return Amounts(
            steps=steps,
            attempts=attempts,
            tokens=tokens,
            cost_micros=cost_micros,
            seconds=(at - began).total_seconds(),
        )

    for step in run:
        # What an outage adds is no work of the task.
        steps += not isinstance(step.body, CallParked | CallStarted)
        match step.body:
            case Decided() as body:
                tokens += body.usage.total
                cost_micros += body.cost_micros
            case CallFinished() as body:
                cost_micros += body.cost_micros
            case AttemptFailed() as body:
                attempts += 1
                tokens += body.usage.total
                cost_micros += body.cost_micros
            case BudgetSpent() as body:
                spent = body
            case EventApplied(event_type=event, payload=payload) if event == TOP_UP:
                more = Amounts.of_top_up(payload)
                wanted, spent = _topped_up(allowed, used(step.at or now), more), None
                is_ours = step.body.source == CLI
                allowed = wanted if is_ours else _within(wanted, allowed, most)
            case _:
                pass
    return Account(
        allowed=allowed,
        used=used(now),
        is_cost_bounded=_cost_bound(snapshot.task, limits) is not None,
        began=began,
        most=most,
        spent=spent,
    )


def with_allowance(snapshot: Snapshot, *, limits: TaskLimits, now: datetime) -> Snapshot:
    """The snapshot as the planner gets it: with what its next turn may use."""
    return replace(snapshot, allowance=account(snapshot, limits=limits, now=now).allowance)


def why_over(budget: Account) -> str | None:
    """What of the budget is used up so that the task may do nothing more; None: nothing."""
    used, allowed = budget.used, budget.allowed
    if used.seconds >= allowed.seconds:
        return f"not done within {timedelta(seconds=allowed.seconds)}"
    if used.steps >= allowed.steps:
        return f"{used.steps} steps, the limit is {allowed.steps}"
    if used.attempts >= allowed.attempts:
        return f"{used.attempts} failed tries, the limit is {allowed.attempts}"
    return None


def why_no_turn(budget: Account) -> str | None:
    """Why the planner can't be asked; its calls that are paid for already may still be made."""
    used, allowed = budget.used, budget.allowed
    if used.tokens >= allowed.tokens:
        return f"{used.tokens} tokens used, the budget is {allowed.tokens}"
    if budget.is_cost_bounded and used.cost_micros >= allowed.cost_micros:
        return f"{_cost_of(budget)}"
    match budget.spent:
        case BudgetSpent(resource="tokens", needed=needed, left=left):
            return f"the next turn may need {needed} tokens, {left} are left of {allowed.tokens}"
        case BudgetSpent(needed=needed):
            return f"the next turn may cost {money_text(needed)}; {_cost_of(budget)}"
        case None:
            return None


def why_no_call(budget: Account, *, cost_micros: int) -> str:
    return f"the next call may cost {money_text(cost_micros)}; {_cost_of(budget)}"


def _cost_of(budget: Account) -> str:
    spent, bound = money_text(budget.used.cost_micros), money_text(budget.allowed.cost_micros)
    return f"{spent} spent, the budget is {bound}"


def fitting(costs: Sequence[int], *, left_micros: int | None, held_micros: int) -> list[bool]:
    """Which of these fit together into what is left beside what is held, the first ones first."""
    if left_micros is None:
        return [True] * len(costs)
    free, fits = max(0, left_micros - held_micros), []
    for cost in costs:
        fits.append(cost <= free)
        free -= cost if cost <= free else 0
    return fits


def at_ceiling(budget: Account) -> str:
    """The names of what no message can raise any more, with commas between."""
    allowed, most = asdict(budget.allowed), asdict(budget.most)
    if not budget.is_cost_bounded:
        del allowed["cost_micros"]
    names = (name.removesuffix("_micros") for name in allowed if allowed[name] >= most[name])
    return ", ".join(names)


def _cost_bound(task: Task, limits: TaskLimits) -> int | None:
    own = task.budget.cost_micros
    return limits.max_cost_micros if own is None else own


def _ceilings(limits: TaskLimits) -> Amounts:
    said, cost = limits.ceilings, limits.max_cost_micros
    top = micros(MAX_COST) if cost is None else HEADROOM * cost
    return Amounts(
        steps=said.steps or HEADROOM * limits.max_steps,
        attempts=said.attempts or HEADROOM * limits.max_attempts,
        tokens=said.tokens or HEADROOM * limits.max_tokens,
        cost_micros=said.cost_micros or top,
        seconds=said.seconds or HEADROOM * limits.max_age.total_seconds(),
    )


def _allowed(task: Task, limits: TaskLimits, most: Amounts) -> Amounts:
    """Whoever sends a task may ask for less than the limit, and for more up to the ceiling."""
    own = task.budget
    return Amounts(
        steps=min(own.steps or limits.max_steps, most.steps),
        attempts=min(own.attempts or limits.max_attempts, most.attempts),
        tokens=min(own.tokens or limits.max_tokens, most.tokens),
        cost_micros=min(_cost_bound(task, limits) or 0, most.cost_micros),
        seconds=min(own.seconds or limits.max_age.total_seconds(), most.seconds),
    )


def _within(wanted: Amounts, allowed: Amounts, most: Amounts) -> Amounts:
    """What a message makes of a budget: what a command allowed stays."""
    return Amounts(
        steps=min(wanted.steps, max(allowed.steps, most.steps)),
        attempts=min(wanted.attempts, max(allowed.attempts, most.attempts)),
        tokens=min(wanted.tokens, max(allowed.tokens, most.tokens)),
        cost_micros=min(wanted.cost_micros, max(allowed.cost_micros, most.cost_micros)),
        seconds=min(wanted.seconds, max(allowed.seconds, most.seconds)),
    )


def _topped_up(allowed: Amounts, used: Amounts, more: Amounts) -> Amounts:
    """What is added counts from what is used, where that is more than was allowed."""
    return Amounts(
        steps=_more(allowed.steps, used.steps, more.steps),
        attempts=_more(allowed.attempts, used.attempts, more.attempts),
        tokens=_more(allowed.tokens, used.tokens, more.tokens),
        cost_micros=_more(allowed.cost_micros, used.cost_micros, more.cost_micros),
        seconds=min(_more(allowed.seconds, used.seconds, more.seconds), MAX_SECONDS),
    )


def _more(allowed: N, used: N, more: N) -> N:
    return max(allowed, used) + more if more else allowed
