"""How many calls went out, as a task's journal tells it: a call may have several results (pure)."""

from collections.abc import Iterable

from orchestrator.domain.errors import UnreadableJournal
from orchestrator.domain.step import (
    AttemptFailed,
    CallFinished,
    CallParked,
    CallStarted,
    StepBody,
    load_body,
)
from orchestrator.engine.facts import was_never_made
from orchestrator.store.history import StepRow


def calls_made(rows: Iterable[StepRow]) -> int:
    """Distinct calls that went out, or may have; kinds this release does not know tell nothing."""
    made: set[tuple[int, int]] = set()
    unsent: set[tuple[int, int]] = set()
    for row in rows:
        try:
            body = load_body(row.kind, row.body)
        except UnreadableJournal:
            continue
        _count(body, made, unsent)
    return len(made)


def _count(body: StepBody, made: set[tuple[int, int]], unsent: set[tuple[int, int]]) -> None:
    match body:
        case CallParked(step=int(step), call=int(call), may_be_sent=False):
            made.discard((step, call))
            unsent.add((step, call))
        case CallStarted(step=step, call=call) | AttemptFailed(step=int(step), call=int(call)):
            unsent.discard((step, call))
            made.add((step, call))
        case CallFinished(step=step, call=call) if not was_never_made(body):
            # Without another `CallStarted` it is still known not to have gone out: a message
            # answered it.
            if (step, call) not in unsent:
                made.add((step, call))
        case _:
            pass
