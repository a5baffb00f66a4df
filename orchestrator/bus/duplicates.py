"""A message whose id is known is dropped. One that says something else than the first is told.

Only a batch of which not all was kept is looked at, after it is written: where that look fails,
nothing is lost but the word about it.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from orchestrator.domain.errors import InvalidMessage, OrchestratorError
from orchestrator.store import duplicates
from orchestrator.store.database import Database
from orchestrator.store.ingest import NewEvent, NewTask, Origin
from orchestrator.telemetry import metrics
from orchestrator.telemetry.logs import get_logger

log = get_logger(__name__)

Message = NewTask | NewEvent
Parse = Callable[[Origin], Message]


async def tell_other_contents(
    database: Database, messages: Sequence[Message], *, parse: Parse
) -> None:
    """Counts and logs those of these messages that differ from the one kept under their id."""
    try:
        found = [
            (message, kept)
            for message, kept in await duplicates.kept_instead(database, messages)
            if not says_the_same(message, kept, parse=parse)
        ]
        if not found:
            return
        await duplicates.tell(database, found)
    except OrchestratorError as error:
        log.warning("duplicates were not compared", error=str(error))
        return
    for topic, number in Counter(message.origin.topic for message, _ in found).items():
        metrics.OTHER_CONTENTS.labels(topic).inc(number)
    message, kept = found[0]
    # One line a batch: a sender gone wrong must not fill the log.
    log.warning(
        "messages with a known id and other content were dropped: the first one counts",
        count=len(found),
        first=message.origin.source,
        kept=kept.source,
        task_id=message.task_id,
        event_id=message.event_id if isinstance(message, NewEvent) else None,
    )


def says_the_same(message: Message, kept: Origin, *, parse: Parse) -> bool:
    """Whether the two differ in nothing but how they were written, and on whose trace."""
    try:
        first = parse(kept)
    except InvalidMessage:
        return True  # it was read under another setting: there is nothing to compare
    return _content(first) == _content(replace(message, origin=kept))


def _content(message: Message) -> str:
    """As text, in which true and 1 differ; the order of fields does not count."""
    if isinstance(message, NewTask):
        message = replace(message, traceparent=None)
    return repr(_ordered({name: getattr(message, name) for name in message.__slots__}))


def _ordered(value: object) -> object:
    match value:
        case dict():
            return sorted((name, _ordered(child)) for name, child in value.items())
        case list():
            return [_ordered(child) for child in value]
        case _:
            return value
