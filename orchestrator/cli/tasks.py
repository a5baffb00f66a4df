"""`orchestrator tasks`: look at tasks in PostgreSQL, and change what becomes of them."""

from datetime import datetime
from typing import Annotated

import typer

from orchestrator.cli import task_control, task_travel
from orchestrator.cli import watch as watching
from orchestrator.cli.moments import moment
from orchestrator.cli.output import AsJson, console, note, print_json, time_text
from orchestrator.cli.session import settings_for, user, with_database
from orchestrator.cli.task_budget import budget_of
from orchestrator.cli.task_view import step_table, task_details, task_document, task_table
from orchestrator.domain.ids import Seq, TaskId
from orchestrator.domain.task import TaskStatus
from orchestrator.store import operations
from orchestrator.store.database import Database
from orchestrator.store.history import (
    StepRow,
    TaskDetails,
    TaskFilter,
    list_tasks,
    show_task,
    steps_of,
)
from orchestrator.store.notices import Notice, notify
from orchestrator.store.open_calls import OpenCall, open_calls

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None)

Id = Annotated[str, typer.Argument(metavar="ID", help="The task's id.")]


@app.callback()
def _tasks() -> None:
    """List, show and watch tasks; cancel, pause, resume, resolve, top up, retry and fork them."""


@app.command("list")
def list_(
    *,
    status: Annotated[
        list[TaskStatus] | None, typer.Option(help="Only these; may be given several times.")
    ] = None,
    text: Annotated[
        str | None, typer.Option("--text", "-t", help="Part of the id or the description.")
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="Whose tasks.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000)] = 20,
    after: Annotated[
        str | None, typer.Option(metavar="ID", help="The last task of the page before.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """The newest tasks first."""
    wanted = TaskFilter(
        statuses=tuple(status or ()),
        tenant=tenant,
        text=text,
        after=None if after is None else TaskId(after),
        limit=limit,
    )
    rows = with_database(lambda database: list_tasks(database, wanted))
    if as_json:
        print_json(rows)
        return
    if not rows:
        note("no tasks")
        return
    console().print(task_table(rows))
    if len(rows) == limit:
        note(f"there may be more: --after {rows[-1].task_id}")


@app.command()
def show(
    task_id: Id,
    *,
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help="The context as of this time (UTC).")
    ] = None,
    step: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="The context as of this step.")
    ] = None,
    steps: Annotated[bool, typer.Option("--steps/--no-steps", help="The table of steps.")] = True,
    as_json: AsJson = False,
) -> None:
    """One task: status, progress, context and steps."""
    at_time = moment(at, option="--at")
    if at_time is not None and step is not None:
        raise typer.BadParameter("give --at or --step, not both", param_hint="--at")

    async def read(database: Database) -> tuple[TaskDetails, list[StepRow], list[OpenCall]]:
        at_step = None if step is None else Seq(step)
        details = await show_task(database, TaskId(task_id), step=at_step, at=at_time)
        journal = await steps_of(database, TaskId(task_id))
        return details, journal, await open_calls(database, TaskId(task_id))

    details, journal, unanswered = with_database(read)
    limits = settings_for("database").engine.limits
    budget = budget_of(details, journal, limits=limits)
    found = [s for s in journal if steps and _is_until(s, step=step, at=at_time)]
    if as_json:
        print_json(task_document(details, found, unanswered, budget=budget))
        return
    as_of = f" at step {step}" if step is not None else ""
    as_of = f" at {time_text(at_time)}" if at_time is not None else as_of
    out = console()
    out.print(task_details(details, unanswered, budget=budget, as_of=as_of))
    if found:
        out.print()
        out.print(step_table(found))


def _is_until(row: StepRow, *, step: int | None, at: datetime | None) -> bool:
    return (step is None or row.seq <= step) and (at is None or row.at <= at)


@app.command()
def watch(
    task_id: Annotated[str | None, typer.Argument(metavar="ID", help="The task's id.")] = None,
    *,
    timeout: Annotated[
        float | None,
        typer.Option(min=0, help="Stop after so many seconds; exit code 1 if ID has not ended."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Follow one task to its end (exit 0 if it completed), or all tasks until Ctrl-C.

    A task that is not there yet is waited for: it may be on its way through Kafka.
    """
    if task_id is None:
        with_database(
            lambda database: watching.watch_all(database, as_json=as_json, timeout_seconds=timeout)
        )
        return
    row = with_database(
        lambda database: watching.watch_one(
            database, TaskId(task_id), as_json=as_json, timeout_seconds=timeout
        )
    )
    if row.status is not TaskStatus.COMPLETED:
        raise typer.Exit(1)


app.command("cancel")(task_control.cancel)
app.command("pause")(task_control.pause)
app.command("resume")(task_control.resume)
app.command()(task_control.resolve)
app.command("top-up")(task_control.top_up)
app.command()(task_control.give)
app.command()(task_travel.history)
app.command()(task_travel.fork)


@app.command()
def retry(
    task_id: Id,
    *,
    reason: task_control.Reason = "",
    by: task_control.By = None,
    as_json: AsJson = False,
) -> None:
    """Send a failed or quarantined task back to work; its limits count anew."""
    who = user() if by is None else by

    async def work(database: Database) -> TaskStatus:
        was = await operations.retry(database, TaskId(task_id), by=who, reason=reason)
        await notify(database, Notice.RUNNABLE, Notice.OUTBOX)
        return was

    _tell("retrying", task_id, with_database(work), as_json=as_json)


def _tell(doing: str, task_id: str, was: TaskStatus, *, as_json: bool) -> None:
    if as_json:
        print_json({"task_id": task_id, "doing": doing, "was": was})
    else:
        console().print(f"{doing} task {task_id} (it was {was})")
