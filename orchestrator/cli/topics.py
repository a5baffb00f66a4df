"""`orchestrator topics`: make the Kafka topics that are missing."""

from dataclasses import replace

import typer

from orchestrator.bus.topics import ensure_topics
from orchestrator.cli.output import AsJson, print_json
from orchestrator.cli.session import run, settings_for

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _topics() -> None:
    """Create the Kafka topics."""


@app.command()
def create(*, as_json: AsJson = False) -> None:
    """Create the topics that are missing; those that are there stay as they are."""
    options = settings_for("kafka").bus
    made = run(ensure_topics(replace(options, create_topics=True)))
    if as_json:
        print_json({"created": made, "topics": options.topics.all})
        return
    for name in options.topics.all:
        typer.echo(f"{name}: {'created' if name in made else 'is there'}")
