"""`orchestrator dead-letters`: what could not be used or done, why, and sending it again."""

import base64
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.table import Table
from rich.text import Text

from orchestrator.bus.dead_letters import REASONS
from orchestrator.bus.letters import (
    DeadLetterView,
    LetterFilter,
    latest_of_each,
    read_dead_letters,
)
from orchestrator.bus.replay import MAX_REPLAYS
from orchestrator.cli.letters_again import counts_told, look, send_all
from orchestrator.cli.moments import moment
from orchestrator.cli.output import (
    AsJson,
    complain,
    console,
    laid_out,
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

Reasons = Annotated[
    list[str] | None,
    typer.Option("--reason", help="Only these, such as schema; may be given several times."),
]
Topic = Annotated[str | None, typer.Option(help="Only what came from this topic.")]
TaskOption = Annotated[str | None, typer.Option("--task", metavar="ID", help="Only of this task.")]
Since = Annotated[
    str | None, typer.Option(metavar="TIME", help="Only later ones: a time (UTC), or 2h ago.")
]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="Only earlier ones.")]
Contains = Annotated[
    str | None, typer.Option(metavar="TEXT", help="Only with this in error, key or value.")
]
Force = Annotated[
    bool, typer.Option("--force", help=f"Also what was sent again {MAX_REPLAYS} times already.")
]


@app.callback()
def _dead_letters() -> None:
    """List, show and send again what could not be used or done."""


@app.command("list")
def list_(  # noqa: PLR0913 # sizes: each is an option
    *,
    reason: Reasons = None,
    topic: Topic = None,
    task: TaskOption = None,
    since: Since = None,
    until: Until = None,
    contains: Contains = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1)] = 50,
    as_json: AsJson = False,
) -> None:
    """The newest letters, the newest last."""
    meant = _meant(
        reason=reason, topic=topic, task=task, since=since, until=until, contains=contains
    )
    letters = run(read_dead_letters(settings_for("kafka").bus))
    wanted = [letter for letter in letters if meant.matches(letter)]
    shown = counts_told(wanted[-limit:])
    if as_json:
        print_json([_document(letter) for letter in shown])
        return
    if not wanted:
        note("no dead letters")
        return
    console().print(_letter_table(shown))
    if len(wanted) > limit:
        note(f"{len(wanted) - limit} older ones are not shown: --limit {len(wanted)}")


def _meant(
    *,
    reason: list[str] | None,
    topic: str | None,
    task: str | None,
    since: str | None,
    until: str | None,
    contains: str | None,
) -> LetterFilter:
    """What `list` and `replay --all` are narrowed to."""
    for unknown in sorted(set(reason or ()) - set(REASONS)):
        raise typer.BadParameter(
            f"{unknown!r} is no reason; known are {', '.join(REASONS)}", param_hint="--reason"
        )
    return LetterFilter(
        reasons=frozenset(reason or ()),
        topic=topic,
        task_id=task,
        since=moment(since, option="--since"),
        until=moment(until, option="--until"),
        contains=contains,
    )


def _letter_table(letters: Sequence[DeadLetterView]) -> Table:
    return table(
        ("ID", "TIME", "REASON", "FROM", "TASK", "REPLAYS", "ERROR"),
        (
            (
                letter.id,
                time_text(letter.at),
                letter.reason,
                _source(letter),
                letter.task_id or "",
                str(letter.replays or ""),
                shortened(letter.error, 100),
            )
            for letter in letters
        ),
    )


@app.command()
def show(
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="Or the end of it, if unique.")],
    *,
    raw: Annotated[
        bool, typer.Option("--raw", help="The value's bytes, and nothing else, on stdout.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """One letter: why, where it came from, and its value."""
    letter = _find(run(read_dead_letters(settings_for("kafka").bus)), letter_id)
    if raw:
        sys.stdout.buffer.write(letter.value or b"")
        return
    (letter,) = counts_told([letter])
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
    size = "" if letter.value is None else f", {len(letter.value)} bytes"
    out.print(Text(f"\nvalue{size}", style="bold"))
    out.print("(none)" if letter.value is None else printable_block(_decoded(letter.value)))


@app.command("replay")
def replay_(  # noqa: PLR0913 # sizes: each is an option
    letter_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Or the ends of them.")
    ] = None,
    *,
    every: Annotated[
        bool, typer.Option("--all", help="All that can be sent again, or those that match:")
    ] = False,
    reason: Reasons = None,
    topic: Topic = None,
    task: TaskOption = None,
    since: Since = None,
    until: Until = None,
    contains: Contains = None,
    value: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Send this instead; @FILE reads it from a file."),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(metavar="N", min=0.01, help="At most so many a second.")
    ] = None,
    force: Force = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Send nothing; show what would be.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Send originals again, to the topic that they came from; a stored task goes back to work."""
    meant = _meant(
        reason=reason, topic=topic, task=task, since=since, until=until, contains=contains
    )
    if bool(letter_ids) == every:
        raise typer.BadParameter("give ids or --all, one of the two")
    if letter_ids and meant != LetterFilter():
        raise typer.BadParameter("what narrows the choice goes with --all, not with ids")
    if value is not None and len(letter_ids or ()) != 1:
        raise typer.BadParameter("--value goes with one id")
    options = settings_for("kafka").bus
    edited = None if value is None else _given_value(value)
    letters = run(read_dead_letters(options))
    meant_ones = _named(letters, letter_ids) if letter_ids else _of_all(letters, meant)
    seen = look(meant_ones, topics=options.topics, force=force, is_edited=edited is not None)
    if letter_ids and seen.problems:
        raise NotAllowed("\n".join(seen.problems))
    left = len(seen.problems)
    if dry_run:
        _show_plan(seen.sendable, left=left, as_json=as_json)
        return
    sent, errors = send_all(
        options, seen.sendable, force=force, value=edited, rate=rate, tell=not as_json
    )
    if as_json:
        print_json({"sent": sent, "left": left})
    else:
        _tell_left(left, is_nothing=not meant_ones)
    complain("\n".join(errors))
    if errors:
        raise typer.Exit(1)


def _named(letters: list[DeadLetterView], ids: Sequence[str]) -> list[DeadLetterView]:
    """Each once, however often it was named; of letters of one kin the latest."""
    found = {letter.id: letter for letter in (_find(letters, id_) for id_ in ids)}
    return latest_of_each(sorted(found.values(), key=letters.index))


def _of_all(letters: list[DeadLetterView], meant: LetterFilter) -> list[DeadLetterView]:
    # Those of which another came are that one's past, also where only they match.
    return [letter for letter in latest_of_each(letters) if meant.matches(letter)]


def _given_value(text: str) -> bytes:
    if not text.startswith("@"):
        return text.encode()
    try:
        return Path(text[1:]).read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{text[1:]} can't be read: {error}", param_hint="--value") from (
            error
        )


def _show_plan(letters: Sequence[DeadLetterView], *, left: int, as_json: bool) -> None:
    if as_json:
        print_json({"would_send": [letter.id for letter in letters]})
        return
    if letters:
        console().print(_letter_table(letters))
    note(f"{len(letters)} would be sent again")
    _tell_left(left)


def _tell_left(left: int, *, is_nothing: bool = False) -> None:
    if is_nothing:
        note("no dead letters to send again")
    elif left:
        note(f"{left} can't be sent again, or were too often: `orchestrator dead-letters list`")


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


def _decoded(value: bytes) -> str:
    """JSON laid out for people, word for word as it came; any other text as it is."""
    text = _text(value)
    try:
        orjson.loads(value)
    except ValueError:
        return text
    return laid_out(text)


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode("utf-8", errors="backslashreplace")


def _base64(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()


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
        "key_base64": _base64(letter.key),
        "value": None if letter.value is None else _text(letter.value),
        "value_base64": _base64(letter.value),
        "headers": [[name, value] for name, value in letter.original_headers],
    }
