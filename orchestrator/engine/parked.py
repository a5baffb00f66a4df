"""What a task can't call now, and whether its journal says so already."""

from collections.abc import Mapping
from types import MappingProxyType

from orchestrator.domain.ids import Seq
from orchestrator.domain.json import JsonObject
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.step import (
    AttemptFailed,
    CallParked,
    CallStarted,
    Decided,
    Forked,
    Retried,
    Step,
)
from orchestrator.engine.compensation import is_compensating

Parked = Mapping[tuple[Seq, int] | None, CallParked]
"""What this runner found that it can't call now, by decision and call; None is the model.

The journal does not say it: whoever takes a task up looks again, and what is looked at is memory.
"""
UNANSWERED = "unanswered"
"""The cause of a call whose agent was asked again what became of it, and did not say.

Never journaled: the step before says that it is asked again, and a parked call counts as not sent.
"""
NONE_PARKED: Parked = MappingProxyType({})


def was_told(steps: tuple[Step, ...], parked: CallParked) -> bool:
    """Whether the journal says it already: same call, same cause, no try since then."""
    if parked.cause == UNANSWERED:
        return True
    for step in reversed(steps):
        body = step.body
        if isinstance(body, Decided | Forked | Retried):
            return False
        if not isinstance(body, CallParked | CallStarted | AttemptFailed):
            continue
        if (body.step, body.call) != (parked.step, parked.call):
            continue
        if not isinstance(body, CallParked):
            return False
        if body.cause == parked.cause:
            return True
    return False


def parked_change(snapshot: Snapshot, parked: CallParked) -> JsonObject | None:
    """What is shown meanwhile; a task that is being undone says so already."""
    return None if is_compensating(snapshot) else {"current_state": f"parked: {parked.reason}"}
