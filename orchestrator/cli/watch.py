"""Following tasks as they run: reads the journal in PostgreSQL three times a second.

On a terminal what is shown is drawn anew in its place; elsewhere each change is a line.
"""

import asyncio
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

from rich.console import Group
from rich.live import Live
from rich.text import Text

from orchestrator.cli.output import console, note, print_json_line
from orchestrator.cli.task_view import progress_bar, step_line, step_table, task_line, task_table
from orchestrator.domain.errors import NotFound
from orchestrator.domain.ids import Seq, TaskId
from orchestrator.store.database import Database
from orchestrator.store.history import (
    StepRow,
    TaskFilter,
    TaskRow,
    find_task,
    list_tasks,
    steps_of,
)

POLL_SECONDS = 0.3
ROWS = 20
LINES = 100
"""Newest tasks whose changes are told of, where stdout is no terminal."""

HEADING_AND_STATE = 4
"""Lines beside the steps."""

Show = Callable[[TaskRow, Sequence[StepRow]], None]
"""Shows the task as of now, and the steps that came since the last time."""


async def watch_one(
    database: Database, task_id: TaskId, *, as_json: bool, timeout_seconds: float | None = None
) -> TaskRow:
    """Shows the task's steps as they come, until it is over; answers how it ended.

    A task that is not there yet is waited for: it may be on its way through Kafka.

    Raises:
        NotFound: it did not come within the time.
    """
    try:
        async with asyncio.timeout(timeout_seconds):
            if as_json:
                return await _follow(database, task_id, _show_json)
            if not sys.stdout.isatty():
                return await _follow(database, task_id, _show_lines)
            with Live(console=console(), auto_refresh=False) as live:
                return await _follow(database, task_id, _show_live(live))
    except TimeoutError:
        note(f"task {task_id} did not end within {timeout_seconds:g} seconds")
        return await find_task(database, task_id)


async def _follow(database: Database, task_id: TaskId, show: Show) -> TaskRow:
    seen = Seq(0)
    while True:
        # The row first: whatever it says has its steps in the journal already.
        row = await _row(database, task_id)
        if row is not None:
            steps = await steps_of(database, task_id, after=seen)
            seen = steps[-1].seq if steps else seen
            show(row, steps)
            if row.is_over:
                return row
        await asyncio.sleep(POLL_SECONDS)


async def _row(database: Database, task_id: TaskId) -> TaskRow | None:
    try:
        return await find_task(database, task_id)
    except NotFound:
        return None


def _show_json(row: TaskRow, steps: Sequence[StepRow]) -> None:
    for step in steps:
        print_json_line({"step": step})
    if row.is_over:
        print_json_line({"task": row})


def _show_lines(row: TaskRow, steps: Sequence[StepRow]) -> None:
    for step in steps:
        sys.stdout.write(step_line(step) + "\n")
    if row.is_over:
        sys.stdout.write(task_line(row) + "\n")
    sys.stdout.flush()


def _show_live(live: Live) -> Show:
    so_far: list[StepRow] = []

    def show(row: TaskRow, steps: Sequence[StepRow]) -> None:
        so_far.extend(steps)
        bar = progress_bar(collected=row.collected, required=row.required)
        line = Text(task_line(row), style="bold")
        # What does not fit is cut off below, where the newest steps are.
        room = max(live.console.height - HEADING_AND_STATE, 1)
        live.update(Group(step_table(so_far[-room:]), bar, line), refresh=True)

    return show


async def watch_all(
    database: Database, *, as_json: bool, timeout_seconds: float | None = None
) -> None:
    """Shows the newest tasks as they change, until interrupted or for so long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_seconds):
            await _watch_all(database, as_json=as_json)


async def _watch_all(database: Database, *, as_json: bool) -> None:
    if as_json or not sys.stdout.isatty():
        await _stream_all(database, as_json=as_json)
        return
    with Live(console=console(), auto_refresh=False) as live:
        while True:
            rows = await list_tasks(database, TaskFilter(limit=ROWS))
            live.update(task_table(rows) if rows else Text("no tasks yet"), refresh=True)
            await asyncio.sleep(POLL_SECONDS)


async def _stream_all(database: Database, *, as_json: bool) -> None:
    told: dict[TaskId, tuple[str, int]] = {}
    while True:
        rows = await list_tasks(database, TaskFilter(limit=LINES))
        for row in reversed(rows):
            state = (row.status.value, row.steps)
            if told.get(row.task_id) == state:
                continue
            if as_json:
                print_json_line({"task": row})
            else:
                sys.stdout.write(task_line(row) + "\n")
        sys.stdout.flush()
        told = {row.task_id: (row.status.value, row.steps) for row in rows}
        await asyncio.sleep(POLL_SECONDS)
