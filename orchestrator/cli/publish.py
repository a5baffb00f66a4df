"""`orchestrator publish`: send tasks and events to Kafka; prints the tasks' ids.

Returns when the brokers have acknowledged; whether they were accepted says `orchestrator tasks`.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from orchestrator.bus.options import BusOptions
from orchestrator.bus.producer import Producer
from orchestrator.cli.messages import (
    Outgoing,
    event_message,
    field_values,
    lines_of,
    task_message,
)
from orchestrator.cli.output import AsJson, complain, console, note, print_json
from orchestrator.cli.session import run, settings_for, with_database
from orchestrator.cli.watch import watch_one
from orchestrator.domain.errors import InvalidMessage
from orchestrator.domain.ids import TaskId
from orchestrator.domain.json import JsonObject
from orchestrator.domain.task import TaskStatus

app = typer.Typer(add_completion=False, rich_markup_mode=None)

AT_ONCE = 500
"""Messages that are on their way to the brokers at the same time."""

Data = Annotated[
    list[str] | None,
    typer.Option("--data", "-d", metavar="NAME=VALUE", help="A field of event_data, or a JSON object."),
]


@app.callback(invoke_without_command=True)
def publish(
    ctx: typer.Context,
    *,
    file: Annotated[
        str | None,
        typer.Option("--file", "-f", metavar="PATH", help="One message a line; - for stdin."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send tasks and events to Kafka."""
    if ctx.invoked_subcommand is not None:
        if file is not None:
            raise typer.BadParameter("stands alone, without a command", param_hint="--file")
        return
    if file is None:
        typer.echo(ctx.get_help())
        raise typer.Exit(2)
    _publish_file(file, as_json=as_json)


@app.command()
def task(
    description: Annotated[str, typer.Argument(help="The task in words.")],
    *,
    task_id: Annotated[str | None, typer.Option("--id", help="A UUID if not given.")] = None,
    require: Annotated[
        list[str] | None, typer.Option("--require", "-r", help="A field to be collected.")
    ] = None,
    data: Data = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help="Any other field of the message, such as priority=high.",
        ),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", "-w", help="Follow it to its end; exit 0 if it completed.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Send one task."""
