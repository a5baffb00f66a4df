"""What commands print: results on stdout, for people or as JSON; everything else on stderr.

Colour only on a terminal and without `NO_COLOR`; texts of others are shown without their control
characters.
"""

import re
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from orchestrator.telemetry.log_lines import printable

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")]

WIDE = 240
"""Columns where stdout is no terminal: a table is as wide as what is in it."""

WORDS = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')
"""Of JSON: texts, brackets, signs, and whatever else stands between them."""
DEEPEST = 64
"""Levels that are indented: a message of a thousand brackets must not fill the memory."""

STATUS_STYLES = {
    "completed": "green",
    "failed": "red",
    "quarantined": "red",
    "cancelled": "yellow",
    "running": "cyan",
    "waiting": "magenta",
    "ready": "blue",
    "expected": "dim",
}


def complain(text: str) -> None:
    """Each line on stderr, as an error."""
    for line in text.splitlines():
        sys.stderr.write(f"error: {printable(line)}\n")


def note(text: str) -> None:
    """Each line on stderr, so that stdout holds results only."""
    for line in text.splitlines() or [""]:
        sys.stderr.write(f"{printable(line)}\n")


def confirm(question: str, *, found: str, option: str) -> None:
    """Goes on where a person says yes; a script has to say so beforehand, with --yes.

    Raises:
        BadParameter: nobody can be asked.
        Abort: the person said no.
    """
    if not sys.stdin.isatty():
        raise typer.BadParameter(
            f"{found}, and there is no terminal to ask at: add --yes", param_hint=option
        )
    typer.confirm(question, abort=True, err=True)


def console() -> Console:
    """Prints texts as they are: no markup, no emoji, no guessing at highlights."""
    width = None if sys.stdout.isatty() else WIDE
    return Console(width=width, markup=False, emoji=False, highlight=False)


def print_json(value: Any) -> None:
    """One JSON document on one line, or indented on a terminal."""
    option = orjson.OPT_INDENT_2 if sys.stdout.isatty() else 0
    sys.stdout.write(orjson.dumps(value, option=option).decode() + "\n")
    sys.stdout.flush()


def print_json_line(value: Any) -> None:
    """One JSON document on one line, at once: for streams."""
    sys.stdout.write(orjson.dumps(value).decode() + "\n")
    sys.stdout.flush()


def pretty(value: Any) -> str:
    """JSON for people."""
    return printable_block(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def laid_out(text: str) -> str:
    """JSON with each member on a line of its own, and otherwise as it came.

    Whoever looks for what is wrong with it has to see names that come twice, and all the digits.
    """
    parts: list[str] = []
    depth, before = 0, ""
    for word in WORDS.findall(text):
        begins = before in ("{", "[")
        ends = word in ("}", "]")
        depth -= ends
        # Between the brackets of what is empty stands nothing.
        if before == "," or begins != ends:
            parts.append("\n" + "  " * min(depth, DEEPEST))
        parts.append(": " if word == ":" else word)
        depth += word in ("{", "[")
        before = word
    return "".join(parts)


def printable_block(text: str) -> str:
    return "\n".join(printable(line) for line in text.splitlines())


def table(columns: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> Table:
    """A plain table: headings and rows, numbers not aligned."""
    made = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*(Text(printable(c)) if isinstance(c, str) else c for c in row))
    return made


def status_text(status: str) -> Text:
    return Text(status, style=STATUS_STYLES.get(status, ""))


def shortened(text: str | None, limit: int) -> str:
    """On one line, and no longer than `limit` characters."""
    line = " ".join((text or "").split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def duration_text(seconds: float) -> str:
    """`0.4s`, `12s`, `3m20s`, `5h02m`, `4d03h`."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86_400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86_400}d{whole % 86_400 // 3600:02}h"


def time_text(moment: datetime | None) -> str:
    """UTC to the millisecond; `--at` reads it back."""
    return "" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"
