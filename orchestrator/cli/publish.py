"""`orchestrator publish`: send tasks and events to Kafka; prints the tasks' ids.

Returns when the brokers have acknowledged; whether they were accepted says `orchestrator tasks`.
"""

import asyncio
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from orchestrator.bus.options import BusOptions
from orchestrator.bus.producer import Publisher
from orchestrator.bus.topics import create_topics, missing_topics
from orchestrator.cli.messages import (
    Outgoing,
    event_message,
    field_values,
    lines_of,
    task_message,
)
from orchestrator.cli.output import AsJson, complain, note, print_json
from orchestrator.cli.session import run, settings_for, with_database
from orchestrator.cli.watch import watch_one
from orchestrator.domain.context import PROVIDERS
from orchestrator.domain.errors import InvalidMessage
from orchestrator.domain.event import AGENT_RESULT
from orchestrator.domain.ids import TaskId
from orchestrator.domain.json import JsonObject
from orchestrator.domain.task import TaskStatus
from orchestrator.telemetry.traces import new_trace

app = typer.Typer(add_completion=False, rich_markup_mode=None)

AT_ONCE = 500
"""Messages that are on their way to the brokers at the same time."""


class Priority(StrEnum):
    """As a message names it."""

    CRITICAL = "critical"
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


Data = Annotated[
    list[str] | None,
    typer.Option("--data", "-d", metavar="NAME=VALUE", help="Of event_data; or a JSON object."),
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
        typer.echo(ctx.get_help(), err=True)
        raise typer.Exit(2)
    _publish_file(file, as_json=as_json)


@app.command()
def task(  # noqa: PLR0913 # sizes: each is an option of the command line
    description: Annotated[str, typer.Argument(help="The task in words.")],
    *,
    task_id: Annotated[
        str | None, typer.Option("--id", help="The task's id; a UUID if not given.")
    ] = None,
    require: Annotated[
        list[str] | None,
        typer.Option(
            "--require",
            "-r",
            metavar="FIELD",
            help="To be collected; may be repeated. FIELD:event (or :agent, :person) says by whom.",
        ),
    ] = None,
    data: Data = None,
    priority: Annotated[
        Priority | None, typer.Option(help="critical, high, normal or low.")
    ] = None,
    deadline: Annotated[
        str | None, typer.Option(metavar="TIME", help="Such as 2030-01-31T12:00:00Z.")
    ] = None,
    budget_tokens: Annotated[int | None, typer.Option(min=1, help="Of all model calls.")] = None,
    budget: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="tokens, cost, steps, attempts, seconds, when_exhausted=wait|fail.",
        ),
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="Whose task.")] = None,
    metadata: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Kept with the task.")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", "-w", help="Follow it to its end; exit 0 if it completed.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Send one task."""
    message = _checked(
        task_message,
        {
            "task_id": task_id,
            "task_description": description,
            "required_fields": [_required(text) for text in require or ()],
            "event_data": _fields(data, "--data"),
            "priority": None if priority is None else priority.value,
            "deadline": deadline,
            "budget_tokens": budget_tokens,
            "budget": _fields(budget, "--budget") or None,
            "tenant": tenant,
            "metadata": _fields(metadata, "--metadata") or None,
        },
    )
    _send_one(message, as_json=as_json and not wait)
    if wait:
        _follow(message, as_json=as_json)


@app.command()
def event(  # noqa: PLR0913 # sizes: each is an option of the command line
    task_id: Annotated[str, typer.Argument(metavar="TASK_ID", help="The task's id.")],
    *,
    event_type: Annotated[
        str | None, typer.Option("--type", help="data, answer, cancel, pause, resume, …")
    ] = None,
    data: Data = None,
    event_id: Annotated[
        str | None, typer.Option(help="The same id a second time changes nothing.")
    ] = None,
    call: Annotated[
        str | None,
        typer.Option(
            metavar="STEP/CALL",
            help="Which agent call --data is the late result of; with --type, which one it is for.",
        ),
    ] = None,
    error: Annotated[
        str | None, typer.Option(help="With --call, instead of --data: why that call failed.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send an event to a task."""
    values = _fields(data, "--data")
    fields: JsonObject = {"task_id": task_id, "event_type": event_type, "event_id": event_id}
    fields |= {} if call is None else _numbers(call)
    if call is not None and event_type in (None, AGENT_RESULT):
        fields |= _late_result(values, error=error)
    elif error is not None:
        raise typer.BadParameter(
            "is of an agent call: name it with --call, without another --type", param_hint="--error"
        )
    else:
        fields |= {"event_data": values}
    _send_one(_checked(event_message, fields), as_json=as_json)


def _numbers(call: str) -> JsonObject:
    step, slash, number = call.partition("/")
    if not (slash and step.isdecimal() and number.isdecimal()):
        raise typer.BadParameter(
            f"expected STEP/CALL, such as 2/1; got {call!r}", param_hint="--call"
        )
    return {"step": int(step), "call": int(number)}


def _late_result(output: JsonObject, *, error: str | None) -> JsonObject:
    if error is None:
        return {"event_type": AGENT_RESULT, "status": "success", "output": output}
    if output:
        raise typer.BadParameter("a call that failed has no --data", param_hint="--error")
    return {"event_type": AGENT_RESULT, "status": "error", "error_message": error}


def _fields(pairs: list[str] | None, option: str) -> JsonObject:
    try:
        return field_values(pairs or ())
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error


def _checked(make: Callable[[JsonObject], Outgoing], fields: JsonObject) -> Outgoing:
    try:
        return make(fields)
    except InvalidMessage as error:
        raise typer.BadParameter(str(error)) from error


def _send_one(message: Outgoing, *, as_json: bool) -> None:
    options = settings_for("kafka").bus
    run(_send(options, [message]))
    if as_json:
        print_json({"task_id": message.task_id, "topic": _topic(options, message)})
    else:
        typer.echo(message.task_id)


async def _send(
    options: BusOptions, messages: Sequence[Outgoing], *, shows_progress: bool = False
) -> None:
    await _make_topics(options, {_topic(options, m) for m in messages})
    progress = Progress(
        TextColumn("publishing"),
        BarColumn(),
        MofNCompleteColumn(),
        console=Console(stderr=True),
        disable=not shows_progress,
        transient=True,
    )
    async with Publisher(options) as publisher:
        with progress:
            shown = progress.add_task("publishing", total=len(messages))
            for start in range(0, len(messages), AT_ONCE):
                chunk = messages[start : start + AT_ONCE]
                await asyncio.gather(*(_publish(publisher, options, m) for m in chunk))
                progress.advance(shown, len(chunk))


async def _publish(publisher: Publisher, options: BusOptions, message: Outgoing) -> None:
    await publisher.publish(
        _topic(options, message),
        key=None if message.key is None else message.key.encode(),
        value=message.value,
        headers=[("traceparent", new_trace().traceparent.encode())],
    )


async def _make_topics(options: BusOptions, names: set[str]) -> None:
    # A broker that makes topics by itself gives them a number of partitions of its own.
    if not options.create_topics:
        return
    missing = tuple(sorted(names.intersection(await missing_topics(options))))
    if missing:
        await create_topics(options, missing)


def _required(text: str) -> str | JsonObject:
    """`approval:event` with who provides it; a colon before anything else belongs to the name."""
    name, _, who = text.rpartition(":")
    return {"name": name, "from": who} if name and who in PROVIDERS else text


def _topic(options: BusOptions, message: Outgoing) -> str:
    return options.topics.tasks if message.topic == "tasks" else options.topics.events


def _follow(message: Outgoing, *, as_json: bool) -> None:
    task_id = TaskId(message.task_id or "")
    row = with_database(lambda database: watch_one(database, task_id, as_json=as_json))
    if row.status is not TaskStatus.COMPLETED:
        raise typer.Exit(1)


def _publish_file(path: str, *, as_json: bool) -> None:
    options = settings_for("kafka").bus
    with _opened(path) as lines:
        found = list(lines_of(lines))
    good = [message for message in found if isinstance(message, Outgoing)]
    bad = [message for message in found if isinstance(message, str)]
    if good:
        run(_send(options, good, shows_progress=sys.stderr.isatty()))
    if as_json:
        print_json({"task_ids": _task_ids(good), "sent": len(good), "errors": bad})
    else:
        for task_id in _task_ids(good):
            typer.echo(task_id)
        note(f"{len(good)} sent" + (f", {len(bad)} not" if bad else ""))
    complain("\n".join(f"{path}: {text}" for text in bad))
    if bad:
        raise typer.Exit(1)


def _task_ids(messages: list[Outgoing]) -> list[str]:
    """In their order, each once."""
    return list(dict.fromkeys(m.task_id for m in messages if m.task_id is not None))


@contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    if path == "-":
        yield sys.stdin.buffer
        return
    try:
        with Path(path).open("rb") as file:
            yield file
    except OSError as error:
        raise typer.BadParameter(
            f"{path} can't be read: {error.strerror}", param_hint="--file"
        ) from error
