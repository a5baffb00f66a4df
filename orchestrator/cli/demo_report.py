"""What the demo prints: a line a task while they run, at the end everything that came of them."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from orchestrator.bus.letters import DeadLetterView
from orchestrator.cli.output import (
    console,
    duration_text,
    pretty,
    printable_block,
    shortened,
    status_text,
    table,
)
from orchestrator.store.history import StepRow, TaskDetails, TaskRow

QUERIES = """\
-- how far each task is
SELECT task_id, status, collected, required, missing, reason FROM task_progress ORDER BY created_at;
-- who did what, when, at what cost
SELECT seq, kind, agent, status, duration_ms, input_tokens, output_tokens, summary
  FROM task_steps WHERE task_id = '{task_id}' ORDER BY seq;
-- the context as it was after step 3
SELECT jsonb_pretty(context_at('{task_id}', 3));"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A task of the demo when all is over."""

    details: TaskDetails
    shows: str
    steps: Sequence[StepRow]
    problem: str | None


class Progress:
    """A live table on a terminal; elsewhere a line for each change."""

    def __init__(self, shows: Mapping[str, str]) -> None:
        """`shows`: task id → what it is there for."""
        self._shows = shows
        self._last: dict[str, str] = {}
        self._live = Live(console=console(), refresh_per_second=8, transient=True)
        self._is_terminal = sys.stdout.isatty()

    def __enter__(self) -> "Progress":
        if self._is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_terminal:
            self._live.stop()

    def show(self, rows: Sequence[TaskRow]) -> None:
        if self._is_terminal:
            self._live.update(self._table(rows))
            return
        for row in rows:
            state = f"{row.status}: {row.reason or row.current_state}"
            if self._last.get(row.task_id) != state:
                self._last[row.task_id] = state
                console().print(f"  {row.task_id:<24} {_fields(row):<14} {shortened(state, 110)}")

    def _table(self, rows: Sequence[TaskRow]) -> Table:
        return table(
            ["task", "what it shows", "fields", "status", "state", "steps", "age"],
            [
                [
                    row.task_id,
                    self._shows.get(row.task_id, ""),
                    _bar(row),
                    status_text(row.status),
                    shortened(row.reason or row.current_state, 48),
                    str(row.steps),
                    duration_text(row.age_seconds),
                ]
                for row in rows
            ],
        )


def _fields(row: TaskRow) -> str:
    return f"{row.collected} of {row.required}"


def _bar(row: TaskRow) -> str:
    return "■" * row.collected + "□" * (row.required - row.collected) + f" {_fields(row)}"


def print_ended(ended: Sequence[Ended]) -> None:
    """Each task with its context as PostgreSQL has it, and its steps."""
    out = console()
    for task in ended:
        row = task.details.row
        out.print()
        out.print(
            Text.assemble((row.task_id, "bold"), f"  {row.description}  ", status_text(row.status))
        )
        out.print(f"  shows: {task.shows}", style="dim")
        if row.reason:
            out.print(f"  reason: {printable_block(row.reason)}")
        _indented(out, pretty(task.details.context))
        out.print(_steps(task.steps))


def _indented(out: Console, text: str) -> None:
    for line in text.splitlines():
        out.print("  " + line)


def _steps(steps: Sequence[StepRow]) -> Table:
    return table(
        ["  step", "what", "agent", "status", "try", "ms", "tokens", ""],
        [
            [
                f"  {step.seq:>4}",
                step.kind,
                step.agent or "",
                step.status or "",
                "" if step.attempt is None else str(step.attempt),
                "" if step.duration_ms is None else str(step.duration_ms),
                _tokens(step),
                shortened(step.summary, 70),
            ]
            for step in steps
        ],
    )


def _tokens(step: StepRow) -> str:
    if not step.input_tokens and not step.output_tokens:
        return ""
    return f"{step.input_tokens or 0} + {step.output_tokens or 0}"


def print_dead_letters(letters: Sequence[DeadLetterView], *, topic: str) -> None:
    """What could not be used, and why."""
    out = console()
    out.print()
    out.print(Text(f"Kafka topic {topic}", style="bold"))
    for letter in letters:
        out.print(f"  {letter.reason}: {printable_block(letter.error)}")
        original = (letter.value or b"").decode(errors="replace")
        out.print(f"  original bytes: {shortened(original, 100)}", style="dim")


def print_queries(*, task_id: str) -> None:
    """How to look for oneself."""
    out = console()
    out.print()
    out.print(Text("Look for yourself", style="bold"))
    out.print(
        "  The data stays. `orchestrator dev` starts the same servers again; while it runs,\n"
        "  `source .orchestrator/dev.env` sets DATABASE_URL, for `psql $DATABASE_URL`."
    )
    _indented(out, QUERIES.format(task_id=task_id))
