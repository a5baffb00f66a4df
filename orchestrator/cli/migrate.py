"""`orchestrator migrate`: the schema of this release, or a look whether it is there."""

from typing import Annotated

import typer

from orchestrator.cli.output import AsJson, print_json
from orchestrator.cli.session import run, settings_for
from orchestrator.store.migrations import upgrade
from orchestrator.store.revision import current, head, is_later

app = typer.Typer(add_completion=False, rich_markup_mode=None)

Check = Annotated[
    bool, typer.Option("--check", help="Change nothing; exit 1 if a migration is missing.")
]


@app.command()
def migrate(*, check: Check = False, as_json: AsJson = False) -> None:
    """Bring the database to this release's schema; running it again changes nothing."""
    url = settings_for("database").database.url
    was = run(current(url))
    is_ahead = was is not None and is_later(was)
    was_current = was == head() or is_ahead
    is_migrated = not (check or was_current)
    if is_migrated:
        upgrade(url)
    is_there = was_current or is_migrated
    if as_json:
        revision = head() if is_migrated else was
        print_json({"current": is_there, "revision": revision, "migrated": is_migrated})
    elif is_ahead:
        typer.echo(
            f"the schema is at revision {was}, of a later release; this one needs {head()}: "
            "nothing to do"
        )
    elif check:
        typer.echo(
            "the schema is current"
            if is_there
            else "migrations are missing: run `orchestrator migrate`"
        )
    else:
        typer.echo(f"the schema is {'already ' if was_current else ''}at revision {head()}")
    if not is_there:
        raise typer.Exit(1)
