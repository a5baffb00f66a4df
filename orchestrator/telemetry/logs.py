"""Structured logs: one line an event, JSON for machines and colour for people, ids of the task bound.

Nothing that others send can forge a line: control characters in values are escaped.
"""

import logging
import re
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, TextIO, cast

import orjson
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor

from orchestrator.telemetry.log_filters import RateFilter

LogFormat = Literal["console", "json", "auto"]
LogLevel = Literal["debug", "info", "warning", "error"]

VERBOSE_LOGGER = "orchestrator.verbose"
"""Prompts, decisions and agent calls as they happen; silent unless `verbose`."""

QUIET_LOGGERS = {
    # One line a request, with its URL: the journal says more, and a URL may carry a secret.
    "httpx": logging.WARNING,
    "httpcore": logging.WARNING,
    "openai": logging.WARNING,
    "uvicorn.access": logging.WARNING,
    "asyncio": logging.WARNING,
    "alembic": logging.WARNING,
    "sqlalchemy": logging.WARNING,
    "aiokafka": logging.WARNING,
}

CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOptions:
    """How much is logged, and for whom."""

    level: LogLevel = "info"
    format: LogFormat = "auto"
    """`auto`: for people where stderr is a terminal, else JSON."""
    verbose: bool = False
    """Show each prompt, decision and agent call as it happens."""


_bound: ContextVar[dict[str, object] | None] = ContextVar("orchestrator_log_ids", default=None)


@contextmanager
def bind_task(task_id: str, trace_id: str | None = None) -> Iterator[None]:
    """Every line logged inside, also by tasks that are started inside, carries these ids."""
    ids: dict[str, object] = {"task_id": task_id}
    if trace_id is not None:
        ids["trace_id"] = trace_id
    with _bind(ids):
        yield


@contextmanager
def bind_step(step: int) -> Iterator[None]:
    """Adds a step's number to the ids of the task."""
    with _bind({"step": step}):
        yield


@contextmanager
def _bind(ids: dict[str, object]) -> Iterator[None]:
    token = _bound.set({**(_bound.get() or {}), **ids})
    try:
        yield
    finally:
        _bound.reset(token)


def get_logger(name: str) -> FilteringBoundLogger:
    """The logger of a module: `get_logger(__name__).info("what_happened", key=value)`."""
    return cast(FilteringBoundLogger, structlog.stdlib.get_logger(name))


def printable(text: str) -> str:
    """The text with control characters (line breaks among them) escaped; tabs stay."""
    return CONTROL.sub(lambda m: m.group().encode("unicode_escape").decode(), text)


def _merge_ids(_logger: object, _method: str, event: EventDict) -> EventDict:
    for key, value in (_bound.get() or {}).items():
        event.setdefault(key, value)
    return event


def _add_suppressed(_logger: object, _method: str, event: EventDict) -> EventDict:
    record = event.get("_record")
    count = getattr(record, "suppressed", None)
    if count:
        event["repeated_in_10s"] = count
    return event


def _escape(_logger: object, _method: str, event: EventDict) -> EventDict:
    # JSON escapes by itself; on a terminal an escape sequence in a value would be obeyed.
    for key, value in event.items():
        if isinstance(value, str) and key != "exception":
            event[key] = printable(value)
    return event


def _to_json(event: MutableMapping[str, Any], **_: object) -> str:
    return orjson.dumps(event, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()


def _shared_processors() -> list[Processor]:
    return [
        _merge_ids,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _renderers(options: LogOptions, stream: TextIO) -> list[Processor]:
    is_terminal = stream.isatty()
    remove = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    if options.format == "console" or (options.format == "auto" and is_terminal):
        return [_add_suppressed, remove, _escape, structlog.dev.ConsoleRenderer(colors=_coloured(stream))]
    return [
        _add_suppressed,
        remove,
        structlog.processors.format_exc_info,
        structlog.processors.EventRenamer("message"),
        structlog.processors.JSONRenderer(serializer=_to_json),
    ]


def _coloured(stream: TextIO) -> bool:
    # https://no-color.org: any value that is not empty.
    return stream.isatty() and not os.environ.get("NO_COLOR")


def configure_logs(options: LogOptions, *, stream: TextIO | None = None) -> None:
    """Sends every logger of the process to `stream` (stderr), ours and other libraries'.

    Safe to call again: the last call wins.
    """
    stream = sys.stderr if stream is None else stream
    shared = _shared_processors()
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.PositionalArgumentsFormatter()],
            processors=_renderers(options, stream),
        )
    )
    handler.addFilter(_ForeignOnly(RateFilter()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(options.level.upper())
    for name, level in QUIET_LOGGERS.items():
        logging.getLogger(name).setLevel(level)
    logging.getLogger(VERBOSE_LOGGER).setLevel(logging.INFO if options.verbose else logging.CRITICAL)
    logging.captureWarnings(capture=True)


class _ForeignOnly(logging.Filter):
    """Applies a filter to other libraries' loggers; our own repeat themselves on purpose."""

    def __init__(self, inner: logging.Filter) -> None:
        super().__init__()
        self._inner = inner

    def filter(self, record: logging.LogRecord) -> bool | logging.LogRecord:
        if record.name == "orchestrator" or record.name.startswith("orchestrator."):
            return True
        return self._inner.filter(record)
