"""How tasks and their steps look to people: lines of a list, one task, a table of steps."""

from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.cli.output import (
    duration_text,
    pretty,
    shortened,
    status_text,
    table,
    time_text,
)
from orchestrator.cli.task_budget import budget_document, budget_text
from orchestrator.domain.budget import micros, money_text
from orchestrator.domain.context import Context
from orchestrator.domain.task import Priority, TaskStatus
from orchestrator.engine.budgets import Account
from orchestrator.store.history import StepRow, TaskDetails, TaskRow
from orchestrator.store.open_calls import OpenCall
from orchestrator.telemetry.log_lines import printable

BAR_CELLS = 10
SUMMARY_LENGTH = 100


def progress_text(*, collected: int, required: int) -> str:
    """`2 of 3 fields`; empty for a task that requires none."""
    return f"{collected} of {required} fields" if required else ""


def progress_bar(*, collected: int, required: int) -> Text:
    if not required:
        return Text("no required fields", style="dim")
    full = BAR_CELLS * collected // required
    return Text.assemble(
        ("█" * full, "green"),
        ("░" * (BAR_CELLS - full), "dim"),
        f" {progress_text(collected=collected, required=required)}",
    )


def task_line(row: TaskRow) -> str:
    """One task on one line, for a stream of changes."""
    progress = progress_text(collected=row.collected, required=row.required)
    parts = (row.task_id, row.status.value, progress, _state(row))
    return printable("  ".join(part for part in parts if part))


def task_table(rows: Sequence[TaskRow]) -> Table:
    return table(
        ("TASK", "STATUS", "PROGRESS", "STEPS", "TOKENS", "AGE", "STATE", "DESCRIPTION"),
        (
            (
                row.task_id,
                status_text(row.status),
                progress_text(collected=row.collected, required=row.required),
                str(row.steps),
                str(row.tokens),
                duration_text(row.age_seconds),
                shortened(_state(row), 40),
                shortened(row.description, 60),
            )
            for row in rows
        ),
    )


def task_details(
    details: TaskDetails,
    unanswered: Sequence[OpenCall] = (),
    *,
    budget: Account | None,
    as_of: str = "",
) -> RenderableType:
    """The task's facts, its progress and its context; `as_of` says which moment that is of."""
    row = details.row
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    for name, value in (*_facts(details, budget), *map(_open_call, unanswered)):
        facts.add_row(name, value if isinstance(value, Text) else Text(printable(value)))
    parts: list[RenderableType] = [facts, Text(f"\ncontext{as_of}", style="bold")]
    context = Context.from_json(details.context)
    required = len(context.required_fields)
    parts.append(progress_bar(collected=required - len(context.missing), required=required))
    if context.missing:
        parts.append(Text(printable(f"missing: {context.labels(context.missing)}")))
    parts.append(Text(pretty(details.context)))
    if row.status is TaskStatus.COMPLETED and details.result is not None and not as_of:
        parts += [Text("\nresult", style="bold"), Text(pretty(details.result))]
    return Group(*parts)


def task_document(
    details: TaskDetails,
    steps: Sequence[StepRow],
    unanswered: Sequence[OpenCall] = (),
    *,
    budget: Account | None,
) -> dict[str, object]:
    """The task as one flat JSON object, its steps under `steps`."""
    facts = asdict(details)
    row = facts.pop("row")
    account = budget_document(budget) if budget else None
    return {**row, **facts, "account": account, "open_calls": unanswered, "steps": steps}


def _open_call(call: OpenCall) -> tuple[str, str]:
    """Which call has no answer, and what an operator needs to find out about it."""
    since = f"since {time_text(call.since)}, Idempotency-Key {call.key}"
    return f"open call {call.step}/{call.call}", f"{call.agent} {since}: {call.state}"


def _facts(details: TaskDetails, budget: Account | None) -> list[tuple[str, str | Text]]:
    row = details.row
    facts: list[tuple[str, str | Text | None]] = [
        ("task", row.task_id),
        ("description", row.description),
        ("status", status_text(row.status)),
        ("state", row.current_state),
        (_reason_name(row.status), row.reason),
        ("runs on", details.worker),
        ("looked at again", time_text(details.run_at) if _will_run(row.status) else None),
        ("unread events", str(details.unread) if details.unread else None),
        ("steps, tokens", f"{row.steps}, {row.tokens}"),
        ("budget", budget_text(budget) if budget else None),
        ("created", f"{time_text(row.created_at)} ({duration_text(row.age_seconds)})"),
        ("finished", time_text(row.finished_at)),
        ("deadline", time_text(details.deadline)),
        ("priority", Priority(details.priority).name.lower()),
        ("tenant", row.tenant if row.tenant != "default" else None),
        ("metadata", pretty(details.metadata) if details.metadata else None),
    ]
    return [(name, value) for name, value in facts if value]


def step_table(steps: Sequence[StepRow]) -> Table:
    return table(
        ("#", "TIME", "STEP", "AGENT", "STATUS", "TOOK", "TOKENS", "COST", "WHAT"),
        (
            (
                str(step.seq),
                time_text(step.at)[11:-1],
                step.kind if (step.attempt or 1) < 2 else f"{step.kind} (try {step.attempt})",
                step.agent or "",
                step.status or "",
                "" if step.duration_ms is None else duration_text(step.duration_ms / 1000),
                tokens_text(step),
                cost_text(step.cost),
                shortened(step.summary, SUMMARY_LENGTH),
            )
            for step in steps
        ),
    )


def step_line(step: StepRow) -> str:
    """One step on one line, for a stream."""
    took = "" if step.duration_ms is None else duration_text(step.duration_ms / 1000)
    who = " ".join(part for part in (step.agent, step.status) if part)
    parts = (
        f"{step.seq:>4}",
        time_text(step.at)[11:-1],
        f"{step.kind:<14}",
        f"{who:<24}",
        f"{took:>7}",
        f"{tokens_text(step):>11}",
        shortened(step.summary, SUMMARY_LENGTH),
    )
    return printable("  ".join(parts).rstrip())


def cost_text(cost: float | None) -> str:
    return money_text(micros(cost)) if cost else ""


def tokens_text(step: StepRow) -> str:
    if step.input_tokens is None or step.output_tokens is None:
        return ""
    return f"{step.input_tokens}+{step.output_tokens}"


def _state(row: TaskRow) -> str:
    """The reason says more than the state, where there is one."""
    return row.reason or row.current_state or ""


def _reason_name(status: TaskStatus) -> str:
    return "waits for" if status is TaskStatus.WAITING else "reason"


def _will_run(status: TaskStatus) -> bool:
    return status in (TaskStatus.WAITING, TaskStatus.READY, TaskStatus.EXPECTED)
