"""`orchestrator models`: the model as tasks are sent to it; agents have the same commands."""

from collections.abc import Sequence
from typing import Annotated

import typer

from orchestrator.agents.targets import model_target
from orchestrator.cli.output import AsJson, print_json
from orchestrator.cli.session import settings_for, with_database
from orchestrator.cli.target_view import (
    By,
    Reason,
    details,
    details_document,
    details_lines,
    tell_outcome,
)
from orchestrator.cli.target_view import pause as pause_target
from orchestrator.cli.target_view import resume as resume_target
from orchestrator.domain.errors import NotFound
from orchestrator.store import targets
from orchestrator.store.database import Database
from orchestrator.telemetry.log_lines import printable

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[
    str | None, typer.Argument(metavar="NAME", help="provider:name; LLM_MODEL where none is given.")
]


@app.callback()
def _models() -> None:
    """Show, pause and resume the model."""


def _named(name: str | None) -> str:
    return name or settings_for("database").llm_model


@app.command()
def show(name: Name = None, *, as_json: AsJson = False) -> None:
    """Whether the model is paused, what is parked for it, and how each worker finds it."""
    model = _named(name)
    found = with_database(lambda database: details(database, model_target(model)))
    if as_json:
        print_json({"id": model, "state": details_document(found)})
        return
    for line in (f"model {model}", *details_lines(found)):
        typer.echo(printable(line))


@app.command()
def pause(
    name: Name = None, *, reason: Reason = "", by: By = None, as_json: AsJson = False
) -> None:
    """Ask the model nothing more: turns are parked; those that are under way come to their end."""
    model = _named(name)

    async def work(database: Database) -> str:
        _check_use(model, await targets.models(database))
        return await pause_target(database, model_target(model), by=by, reason=reason)

    tell_outcome("model", model, with_database(work), as_json=as_json)


def _check_use(model: str, used: Sequence[str]) -> None:
    """Refuses a name that is misspelt, as far as can be known: without workers none is."""
    if used and model_target(model) not in used:
        names = ", ".join(target.removeprefix(model_target("")) for target in used)
        raise NotFound(f"no worker uses model {model!r}; in use: {names}")


@app.command()
def resume(name: Name = None, *, as_json: AsJson = False) -> None:
    """Ask it again; what is parked for it goes on at once."""
    model = _named(name)
    outcome = with_database(lambda database: resume_target(database, model_target(model)))
    tell_outcome("model", model, outcome, as_json=as_json)
