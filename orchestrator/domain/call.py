"""A call to an agent and what came back."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from orchestrator.domain.agent import Effects
from orchestrator.domain.budget import Micros, told_cost_micros
from orchestrator.domain.compensation import Compensation
from orchestrator.domain.fault import Fault
from orchestrator.domain.ids import AgentId
from orchestrator.domain.json import JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of a decision; `number` counts from 1 within the decision."""

    number: int
    agent: AgentId
    input: JsonObject = field(default_factory=dict)
    tool_call_id: str | None = None
    """The model's id of it, so that the result can be given back under that id."""
    cost_micros: Micros = 0
    """What its agent declared that a call costs: set aside until the result tells."""
    compensation: Annotated[Compensation | None, Field(exclude_if=lambda v: v is None)] = None
    """What its agent declared when the call was decided on."""
    effects: Annotated[Effects | None, Field(exclude_if=lambda v: v is None)] = None
    """`at_most_once` where its agent declared so by then; else nothing is said."""
    compensates: Annotated[str | None, Field(exclude_if=lambda v: v is None)] = None
    """Of a compensation: the idempotency key of the call that it undoes."""

    def charged(self, usage: JsonObject | None) -> int:
        """What it costs in the end, in millionths: what the agent says, else what was set aside."""
        told = told_cost_micros(usage)
        return self.cost_micros if told is None else told


class CallStatus(StrEnum):
    """Stored in the journal; never rename."""

    SUCCESS = "success"
    ERROR = "error"
    INPUT_REQUIRED = "input_required"
    ACCEPTED = "accepted"
    """The agent will answer later, with an `agent_result` event."""
    UNKNOWN = "unknown"
    """The task ended while the call was under way: it may have had its effect. No agent says it."""

    @property
    def is_final(self) -> bool:
        """Whether it is the call's result: a later one changes nothing."""
        return self not in (CallStatus.ACCEPTED, CallStatus.UNKNOWN)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallResult:
    """What an agent answered, or why it did not."""

    status: CallStatus
    output: JsonObject = field(default_factory=dict)
    error: str | None = None
    """For people and the model; also the question of `input_required`."""
    retryable: bool = False
    retry_after_seconds: float | None = None
    was_sent: bool = True
    """False where the call surely never left this process, so that it can't have had an effect."""
    is_unsure: bool = False
    """Of an error: it does not say whether the call took effect. Nor does one that may pass."""
    is_cut_short: bool = False
    """Of an error: the task's time was over before the agent's, which says nothing about it."""
    usage: JsonObject | None = None
    duration_ms: int = 0
    fault: Fault | None = None
