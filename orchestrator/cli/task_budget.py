"""What a task used of its budget and what is left, as its worker adds it up."""

from collections.abc import Sequence
from datetime import UTC, datetime

from orchestrator.cli.output import time_text
from orchestrator.domain.budget import MICROS, Budget, money_text
from orchestrator.domain.context import Context
from orchestrator.domain.errors import UnreadableJournal
from orchestrator.domain.ids import Epoch, TaskKey
from orchestrator.domain.json import JsonObject
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.step import Step, load_body
from orchestrator.domain.task import Task
from orchestrator.engine.budgets import Account, account
from orchestrator.engine.options import TaskLimits
from orchestrator.store.history import StepRow, TaskDetails


def budget_of(
    details: TaskDetails, steps: Sequence[StepRow], *, limits: TaskLimits
) -> Account | None:
    """As of its last step here; None where this release can't read one of them."""
    row = details.row
    task = Task(
        key=TaskKey(0),
        task_id=row.task_id,
        description=row.description,
        budget=Budget.of_row(tokens=None, document=details.budget),
        created_at=row.created_at,
    )
    try:
        journal = tuple(
            Step(seq=step.seq, body=load_body(step.kind, step.body), at=step.at) for step in steps
        )
    except UnreadableJournal:
        return None
    snapshot = Snapshot(task=task, epoch=Epoch(0), context=Context(), steps=journal)
    return account(snapshot, limits=limits, now=row.finished_at or datetime.now(UTC))


def budget_text(found: Account) -> str:
    used, allowed = found.used, found.allowed
    cost = f"cost {money_text(used.cost_micros)}"
    parts = (
        f"tokens {used.tokens} of {allowed.tokens}",
        f"{cost} of {money_text(allowed.cost_micros)}" if found.is_cost_bounded else cost,
        f"steps {used.steps} of {allowed.steps}",
        f"failed tries {used.attempts} of {allowed.attempts}",
        f"until {time_text(found.ends)}",
    )
    return ", ".join(parts)


def budget_document(found: Account) -> JsonObject:
    used, left = found.used, found.left_micros
    return {
        "tokens": _line(used.tokens, found.allowed.tokens),
        "cost": {
            "used": used.cost_micros / MICROS,
            "left": None if left is None else left / MICROS,
        },
        "steps": _line(used.steps, found.allowed.steps),
        "attempts": _line(used.attempts, found.allowed.attempts),
        "until": found.ends.isoformat(),
    }


def _line(used: int, allowed: int) -> JsonObject:
    return {"used": used, "left": max(0, allowed - used)}
