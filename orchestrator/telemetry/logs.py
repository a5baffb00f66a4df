"""Structured logs on stderr: one event a line, with the ids of its task; a flood is one line."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal, TextIO

import structlog
from structlog.stdlib import BoundLogger, ProcessorFormatter
from structlog.typing import EventDict, Processor

from orchestrator.telemetry.log_filters import RateFilter
from orchestrator.telemetry.log_lines import console_renderers, json_renderers

LogFormat = Literal["console", "json", "auto"]
LogLevel = Literal["debug", "info", "warning", "error"]

VERBOSE_LOGGER = "orchestrator.verbose"
"""Prompts, decisions and agent calls as they happen; silent unless `verbose`.

A long text goes into the key `block`: on a terminal it stands indented below the line.
"""

# One line a request, with its URL, says less than the journal, and a URL may carry a secret.
FOREIGN_LEVELS = {
    "aiokafka": logging.WARNING,
    # They call normal what passes by itself an error: a topic that is being made, a coordinator
    # that moves. What does not pass, the bus tells.
    "aiokafka.cluster": logging.CRITICAL,
    "aiokafka.consumer.group_coordinator": logging.CRITICAL,
    "alembic": logging.WARNING,
    "asyncio": logging.WARNING,
    # Its pool logs a traceback for each connection that a frozen server keeps waiting.
    "asyncpg": logging.CRITICAL,
    "httpcore": logging.WARNING,
    "httpx": logging.WARNING,
    "openai": logging.WARNING,
    "sqlalchemy": logging.WARNING,
    "uvicorn": logging.WARNING,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOptions:
    """How much is logged, and for whom."""

    level: LogLevel = "info"
    format: LogFormat = "auto"
    """`auto`: for people where stderr is a terminal, else JSON."""
    verbose: bool = False
    """Show each prompt, decision and agent call as it happens."""


_ids: ContextVar[dict[str, object] | None] = ContextVar("orchestrator_log_ids", default=None)


@contextmanager
def bind_task(task_id: str, trace_id: str | None = None) -> Iterator[None]:
    """Every line logged inside, also by coroutines that are started inside, carries these ids."""
    trace = {} if trace_id is None else {"trace_id": trace_id}
    token = _ids.set({**(_ids.get() or {}), "task_id": task_id, **trace})
    try:
        yield
    finally:
        _ids.reset(token)


def get_logger(name: str) -> BoundLogger:
    """The logger of a module: `get_logger(__name__).info("what happened", key=value)`."""
    return structlog.stdlib.get_logger(name)


def _merge_ids(_logger: object, _method: str, event: EventDict) -> EventDict:
    for key, value in (_ids.get() or {}).items():
        event.setdefault(key, value)
    return event


def _add_suppressed(_logger: object, _method: str, event: EventDict) -> EventDict:
    count = getattr(event.get("_record"), "suppressed", 0)
    if count:
        event["repeated"] = count
    return event


class _Sink:
    """Writes our own lines at once: a `LogRecord` for each would take longer than all the rest."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, _logger: object, _method: str, line: EventDict) -> EventDict:
        self._stream.write(f"{line}\n")
        self._stream.flush()
        raise structlog.DropEvent


def _is_console(options: LogOptions, stream: TextIO) -> bool:
    return options.format == "console" or (options.format == "auto" and stream.isatty())


def configure_logs(options: LogOptions, *, stream: TextIO | None = None) -> None:
    """Sends every logger of the process to `stream` (stderr), ours and other libraries'.

    May be called again; the last call wins.
    """
    stream = sys.stderr if stream is None else stream
    shared: list[Processor] = [
        _merge_ids,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    is_console = _is_console(options, stream)
    render = console_renderers(stream) if is_console else json_renderers()
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, *render, _Sink(stream)],
        wrapper_class=BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.addFilter(RateFilter())
    handler.setFormatter(
        ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[_add_suppressed, ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(options.level.upper())
    _set_levels(options)


def _set_levels(options: LogOptions) -> None:
    for name, level in FOREIGN_LEVELS.items():
        logging.getLogger(name).setLevel(level)
    verbose = logging.getLogger(VERBOSE_LOGGER)
    verbose.setLevel(logging.INFO if options.verbose else logging.CRITICAL)
    logging.captureWarnings(capture=True)
