"""What simulated workers log is dropped, but for exceptions that they did not expect."""

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from structlog.typing import EventDict


@contextmanager
def unexpected_errors() -> Iterator[list[str]]:
    """The exceptions that were logged inside, as text."""
    found: list[str] = []

    def keep(_logger: object, _method: str, event: EventDict) -> EventDict:
        if event.get("exc_info"):
            found.append(f"{event['event']}: {traceback.format_exc(limit=-3)}")
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(
        processors=[keep], wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR)
    )
    try:
        yield found
    finally:
        structlog.configure(**before)
