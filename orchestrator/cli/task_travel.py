"""`orchestrator tasks history|fork`: what a task did and going on from any of its steps."""

import uuid
from typing import Annotated

import typer

from orchestrator.bus.contract import EventMessage
from orchestrator.cli.output import AsJson, console, print_json
from orchestrator.cli.session import user, with_database
from orchestrator.cli.task_control import By, Reason, object_of
from orchestrator.cli.task_history import happening, history_table, totals
from orchestrator.domain.errors import InvalidMessage
from orchestrator.domain.ids import Epoch, Seq, TaskId
from orchestrator.domain.step import Forked
from orchestrator.store import fork as forks
from orchestrator.store.database import Database
from orchestrator.store.history import StepRow, epochs_of, find_task, steps_of
from orchestrator.store.notices import Notice, notify

Id = Annotated[str, typer.Argument(metavar="ID", help="The task's id.")]


def history(task_id: Id, *, as_json: AsJson = False) -> None:
    """Every step of a task: who decided what, when, why, and at what cost."""

    async def read(database: Database) -> tuple[list[StepRow], dict[Seq, Epoch]]:
        await find_task(database, TaskId(task_id))
        rows = await steps_of(database, TaskId(task_id))
        return rows, await epochs_of(database, TaskId(task_id))

    rows, epochs = with_database(read)
    told = [happening(row, epoch=epochs[row.seq]) for row in rows]
    if as_json:
        print_json({"task_id": task_id, "totals": totals(told, rows), "steps": told})
        return
    out = console()
    out.print(history_table(told, rows))
    out.print(", ".join(f"{name}: {value}" for name, value in totals(told, rows).items()))


def fork(  # noqa: PLR0913 # sizes: each is an option of the command line
    task_id: Id,
    *,
    from_step: Annotated[int, typer.Option(min=1, help="The last step that both share.")],
    given: Annotated[
        str | None,
        typer.Option("--set", metavar="JSON", help="Data for the new task, as an event brings it."),
    ] = None,
    new: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="The new task's id. [default: made up]")
    ] = None,
    reason: Reason = "",
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """A new task that goes on from a step of this one; no journaled call is made again."""
    made = _id_of_fork(task_id, new)
    body = Forked(
        task=task_id,
        step=Seq(from_step),
        by=user() if by is None else by,
        reason=reason,
        given={} if given is None else object_of(given, option="--set"),
    )

    async def work(database: Database) -> None:
        await forks.fork(database, body, new=made)
        await notify(database, Notice.RUNNABLE, Notice.OUTBOX)

    with_database(work)
    if as_json:
        print_json({"task_id": made, "from": task_id, "step": from_step})
    else:
        console().print(f"task {made} goes on from step {from_step} of task {task_id}")


def _id_of_fork(task_id: str, new: str | None) -> TaskId:
    """The id given, or one made up; raises `BadParameter` where no message could name it."""
    if new is None:
        return TaskId(f"{task_id[:180]}-fork-{uuid.uuid4().hex[:8]}")
    try:
        return TaskId(EventMessage.read({"task_id": new}).task_id)
    except InvalidMessage as error:
        raise typer.BadParameter(str(error), param_hint="--id") from error
