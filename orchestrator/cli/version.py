"""`orchestrator version`."""

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of

import typer

from orchestrator.cli.output import AsJson, print_json

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def version(*, as_json: AsJson = False) -> None:
    """Print the version."""
    try:
        number = version_of("orchestrator")
    except PackageNotFoundError:
        number = "not installed"
    if as_json:
        print_json({"version": number, "python": platform.python_version()})
    else:
        typer.echo(f"orchestrator {number} (Python {platform.python_version()})")
