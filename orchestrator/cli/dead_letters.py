"""`orchestrator dead-letters`: what could not be used, why, and sending it again."""

import base64
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from orchestrator.bus.dead_letters import HEADERS_LEFT_OUT, LENGTH
from orchestrator.bus.headers import first
from orchestrator.bus.options import BusOptions
from orchestrator.bus.producer import Publisher
from orchestrator.bus.replay import (
    MAX_REPLAYS,
    NO_MESSAGE,
    DeadLetterView,
    read_dead_letters,
    replay,
)
from orchestrator.cli.output import (
    AsJson,
    console,
    note,
    print_json,
    printable_block,
    shortened,
    table,
    time_text,
)
from orchestrator.cli.session import run, settings_for
from orchestrator.domain.errors import NotAllowed, NotFound
from orchestrator.domain.json import JsonObject
from orchestrator.telemetry.log_lines import printable

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None)

Force = Annotated[
    bool, typer.Option("--force", help=f"Also what was sent again {MAX_REPLAYS} times already.")
]


@app.callback()
def _dead_letters() -> None:
    """List, show and send again what could not be used."""


@app.command("list")
def list_(
    *,
    reason: Annotated[
        str | None, typer.Option(help="Only these, such as invalid_json or schema.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1)] = 50,
    as_json: AsJson = False,
) -> None:
    """The newest letters, the newest last."""
    letters = run(read_dead_letters(settings_for("kafka").bus))
    wanted = [letter for letter in letters if reason in (None, letter.reason)]
    if as_json:
        print_json([_document(letter) for letter in wanted[-limit:]])
        return
    if not wanted:
        note("no dead letters")
        return
    rows = (
        (
            letter.id,
            time_text(letter.at),
            letter.reason,
            _source(letter),
            letter.task_id or "",
            shortened(letter.error, 100),
        )
        for letter in wanted[-limit:]
    )
    console().print(table(("ID", "TIME", "REASON", "FROM", "TASK", "ERROR"), rows))
    if len(wanted) > limit:
        note(f"{len(wanted) - limit} older ones are not shown: --limit {len(wanted)}")


@app.command()
def show(
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="Or the end of it, if unique.")],
    *,
    as_json: AsJson = False,
) -> None:
    """One letter: why, where it came from, and its bytes."""
    letter = _find(run(read_dead_letters(settings_for("kafka").bus)), letter_id)
    if as_json:
        print_json(_document(letter))
        return
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    for name, text in (
        ("id", letter.id),
        ("reason", letter.reason),
        ("error", letter.error),
        ("from", _source(letter)),
        ("at", time_text(letter.at)),
        ("task", letter.task_id or ""),
        ("sent again", f"{letter.replays} times" if letter.replays else ""),
        ("key", _text(letter.key)),
        *((f"header {name}", value) for name, value in letter.original_headers),
    ):
        if text:
            facts.add_row(name, Text(printable(text)))
    out = console()
    out.print(facts)
    out.print(Text("\nvalue", style="bold"))
    out.print("(none)" if letter.value is None else printable_block(_text(letter.value)))


@app.command("replay")
def replay_(
    letter_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Or the ends of them.")
    ] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="All that can be sent again.")] = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Send originals again, to the topic that they came from."""
    if bool(letter_ids) == every:
        raise typer.BadParameter("give ids or --all, one of the two")
    options = settings_for("kafka").bus
    letters = run(read_dead_letters(options))
    if every:
        wanted = [letter for letter in letters if _can_be_replayed(letter, force=force)]
    else:
        wanted = [_find(letters, letter_id) for letter_id in letter_ids or ()]
    sent = run(_replay(options, [letter.id for letter in wanted], force=force))
    left = len(letters) - len(sent) if every else 0
    if as_json:
        print_json({"sent": [letter.id for letter in sent], "left": left})
        return
    for letter in sent:
        typer.echo(printable(f"{letter.id}: sent to {letter.topic} again"))
    if left:
        note(f"{left} can't be sent again, or were too often: `orchestrator dead-letters list`")


async def _replay(options: BusOptions, ids: list[str], *, force: bool) -> list[DeadLetterView]:
    if not ids:
        return []
    async with Publisher(options) as publisher:
        return await replay(options, publisher, ids, force=force)


def _can_be_replayed(letter: DeadLetterView, *, force: bool) -> bool:
    """`replay` refuses the others, each with its reason."""
    is_whole = all(first(letter.headers, name) is None for name in (LENGTH, HEADERS_LEFT_OUT))
    holds_message = bool(letter.topic) and letter.reason not in NO_MESSAGE
    return is_whole and holds_message and (force or letter.replays < MAX_REPLAYS)


def _find(letters: list[DeadLetterView], wanted: str) -> DeadLetterView:
    # The end of an id is what differs; its beginning is a time.
    found = [letter for letter in letters if letter.id.endswith(wanted)]
    if not found:
        raise NotFound(
            f"there is no dead letter {wanted!r}; "
            "`orchestrator dead-letters list` shows those there are"
        )
    if len(found) > 1:
        raise NotAllowed(f"{len(found)} dead letters end in {wanted!r}: give more of the id")
    return found[0]


def _source(letter: DeadLetterView) -> str:
    if not letter.topic:
        return ""
    return f"{letter.topic}/{letter.partition}/{letter.offset}"


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode("utf-8", errors="backslashreplace")


def _document(letter: DeadLetterView) -> JsonObject:
    return {
        "id": letter.id,
        "reason": letter.reason,
        "error": letter.error,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "task_id": letter.task_id,
        "replays": letter.replays,
        "at": letter.at.isoformat(),
        "key": None if letter.key is None else _text(letter.key),
        "value": None if letter.value is None else _text(letter.value),
        "value_base64": None if letter.value is None else base64.b64encode(letter.value).decode(),
        "headers": [[name, value] for name, value in letter.original_headers],
    }
