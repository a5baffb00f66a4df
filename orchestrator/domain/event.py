"""A message about a task, as it waits in the inbox to be applied."""

from dataclasses import dataclass, field

from orchestrator.domain.json import JsonObject

CANCEL = "cancel"
PAUSE = "pause"
RESUME = "resume"
AGENT_RESULT = "agent_result"
TOP_UP = "top_up"
"""Adds to the task's budget."""
GIVEN = "given"
"""Data of a person, by a command. No message may say so."""
DATA = "data"
TIMEOUT = "timeout"
"""Made by the engine itself: a wait ended because its time came."""

URGENT = (CANCEL, PAUSE, RESUME, AGENT_RESULT, TOP_UP)
"""What a running task hears of at once, also during its calls; the rest waits until they end."""


CLI = "cli"
"""The source of what a person told the task by a command."""
MAX_BY = 100


def told_by(payload: JsonObject, source: str) -> str:
    """Who told the task this; empty where nobody is named.

    A command names its user. In a message `by` is what its sender wrote, so the message comes
    first: `events/0/12 (says: kim)`.
    """
    said = payload.get("by")
    if not said:
        return ""
    who = str(said)[:MAX_BY]
    return who if source == CLI else f"{source or 'a message'} (says: {who})"


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxMessage:
    """A row of `inbox` that is not applied yet."""

    id: int
    event_type: str
    """`task` for the task's own message, else an event type."""
    payload: JsonObject = field(default_factory=dict)
    """The event's data (`event_data` of the message, and its other fields)."""
    step: int | None = None
    call: int | None = None
    """Which call an `agent_result` answers."""
    source: str = ""
