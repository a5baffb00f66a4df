"""What a planner may decide, and the turn in which it decides."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from orchestrator.domain.call import Call
from orchestrator.domain.json import JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Delegate:
    """Make these calls side by side, then ask again. Without calls: ask again at once."""

    calls: tuple[Call, ...] = ()
    type: Literal["delegate"] = "delegate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Rest until an event comes, or until a time."""

    waiting_for: str
    """For people: what is missing and from whom."""
    until: datetime | None = None
    type: Literal["wait"] = "wait"


@dataclass(frozen=True, slots=True, kw_only=True)
class Complete:
    """The task is done. The engine refuses it while required fields are missing."""

    result: JsonObject = field(default_factory=dict)
    type: Literal["complete"] = "complete"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fail:
    """The task can't be done, and why."""

    reason: str
    type: Literal["fail"] = "fail"


Decision = Annotated[Delegate | Wait | Complete | Fail, Field(discriminator="type")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one model call; zero where the provider does not count."""

    input_tokens: int = 0
    output_tokens: int = 0

    @property
    def total(self) -> int:
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What a model's answer holds beyond its text and calls.

    It goes back unchanged to the model and endpoint that gave it, and to no other.
    """

    by: str
    """Who gave it (`ModelOptions.sender`)."""
    parts: JsonObject = field(default_factory=dict)
    """`content`, `fields` and `metadata`, as the model's client reads and writes them."""
    cut: Annotated[tuple[str, ...], Field(exclude_if=lambda v: not v)] = ()
    """Parts that were not kept, each with the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelMessage:
    """The model's answer as it came, so that the next prompt repeats it to the letter."""

    text: str = ""
    tool_calls: tuple[JsonObject, ...] = ()
    """`{"id", "name", "args"}`; for a call whose arguments are not JSON, `args` is the raw text."""
    kept: Annotated[Kept | None, Field(exclude_if=lambda v: v is None)] = None
    """None where text and calls are all there was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The answer to a tool call that needed no agent: an error to repair, a list, an update."""

    tool_call_id: str
    text: str
    is_error: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One answer of a planner: the decision, and all that must be journaled with it."""

    decision: Decision
    message: ModelMessage | None = None
    replies: tuple[Reply, ...] = ()
    collected: JsonObject = field(default_factory=dict)
    """Fields that the planner itself established (`update_context`), for `collected_data`."""
    state: str | None = None
    """A phrase for `current_state`, where the planner gave one."""
    is_repair: bool = False
    """Something in this turn was unusable, and the model was told what."""
    model: str = ""
    usage: Usage = Usage()
    cost_micros: int = 0
    duration_ms: int = 0
