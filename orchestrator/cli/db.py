"""`orchestrator db prune`: finished tasks go, with all that is theirs."""

from typing import Annotated, Any

import typer

from orchestrator.cli.moments import duration
from orchestrator.cli.output import AsJson, confirm, console, note, print_json, table
from orchestrator.cli.session import with_database
from orchestrator.domain.errors import NotAllowed
from orchestrator.engine.options import MIN_KEPT
from orchestrator.store import retention
from orchestrator.store.retention import Month

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True)

OlderThan = Annotated[
    str, typer.Option(help="How long a task must be over: 90d, say; at least 30d.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before anything is deleted.")]
Force = Annotated[
    bool,
    typer.Option("--force", help="Less than 30 days: messages that come again are new tasks."),
]


@app.callback()
def _root() -> None:
    """Look after the database."""


@app.command()
def prune(
    *,
    older_than: OlderThan = "90d",
    dry_run: DryRun = False,
    yes: Yes = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Delete tasks that are over, with steps, context and messages; whole months where they can.

    Never a task that is not over, that waits for a person (quarantined), or whose updates are still
    on their way to Kafka.
    """
    age = duration(older_than, option="--older-than")
    if age < MIN_KEPT and not force:
        raise NotAllowed(
            f"--older-than {older_than} is less than {MIN_KEPT.days} days, within which a producer "
            "may send a message again: it would be a new task; --force if none does"
        )
    found = with_database(lambda database: retention.months(database, older_than=age))
    old = sum(month.old for month in found)
    if not as_json:
        _show(found)
    if dry_run or not any(month.old or month.goes_whole for month in found):
        if as_json:
            print_json({"tasks": 0, "dropped": [], "months": [_json(m) for m in found]})
        return
    if not yes:
        confirm(f"delete {old} tasks?", found=f"{old} tasks are to go", option="--yes")
    gone = with_database(lambda database: retention.prune(database, found, older_than=age))
    if as_json:
        print_json(
            {
                "tasks": gone.tasks,
                "dropped": list(gone.months),
                "months": [_json(m) for m in found],
            }
        )
    else:
        dropped = f", and {', '.join(gone.months)} as a whole" if gone.months else ""
        note(f"{gone.tasks} tasks deleted{dropped}")


def _show(found: list[Month]) -> None:
    rows = [
        (m.name, str(m.tasks), str(m.old), "as a whole" if m.goes_whole else "row by row")
        for m in found
    ]
    console().print(table(["PARTITION", "TASKS", "TO DELETE", "HOW"], rows))


def _json(month: Month) -> dict[str, Any]:
    return {
        "partition": month.name,
        "tasks": month.tasks,
        "old": month.old,
        "goes_whole": month.goes_whole,
    }
