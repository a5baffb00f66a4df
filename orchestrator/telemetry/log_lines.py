"""How a log event becomes a line: JSON for machines, colour and indented blocks for people.

Nothing that others send can forge a line or move a cursor: control characters are escaped.
"""

import os
import re
import traceback
from typing import Any, TextIO

import orjson
import structlog
from structlog.typing import EventDict, ExcInfo, Processor

BLOCK = "block"
"""Key of a longer text (a prompt, an answer) that people see indented below the line."""

CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")


def printable(text: str) -> str:
    """The text with control characters (line breaks among them) escaped; tabs stay."""
    return CONTROL.sub(lambda m: m.group().encode("unicode_escape").decode(), text)


def is_coloured(stream: TextIO) -> bool:
    # https://no-color.org: any value that is not empty.
    return stream.isatty() and not os.environ.get("NO_COLOR")


def json_renderers() -> list[Processor]:
    return [
        structlog.processors.format_exc_info,
        structlog.processors.EventRenamer("message"),
        structlog.processors.JSONRenderer(serializer=_to_json),
    ]


def console_renderers(stream: TextIO) -> list[Processor]:
    return [_escape, _Console(is_coloured=is_coloured(stream))]


def _to_json(event: Any, **_: object) -> str:
    return orjson.dumps(event, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()


def _escape(_logger: object, _method: str, event: EventDict) -> EventDict:
    for key, value in event.items():
        if isinstance(value, str) and key not in ("exception", BLOCK):
            event[key] = printable(value)
    return event


def _write_traceback(stream: TextIO, exc_info: ExcInfo) -> None:
    # An exception's text may quote what others sent.
    lines = "".join(traceback.format_exception(*exc_info)).splitlines()
    stream.write("\n" + "\n".join(printable(line) for line in lines))


class _Console:
    """structlog's renderer, and blocks below its line."""

    def __init__(self, *, is_coloured: bool) -> None:
        self._render = structlog.dev.ConsoleRenderer(
            colors=is_coloured, exception_formatter=_write_traceback
        )
        self._dim, self._normal = ("\x1b[2m", "\x1b[0m") if is_coloured else ("", "")

    def __call__(self, logger: Any, method: str, event: EventDict) -> str:
        block = event.pop(BLOCK, None)
        line = str(self._render(logger, method, event))
        if block is None:
            return line
        below = (f"    {self._dim}|{self._normal} {printable(t)}" for t in str(block).splitlines())
        return "\n".join((line, *below))
