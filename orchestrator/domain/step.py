"""A step: one journaled fact of a task, as a tagged union.

Bodies are stored as JSON in `steps.body`, the tag in `steps.kind`. Add fields with defaults; never
rename or remove one, or the journals of earlier releases can't be read.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, ClassVar, Literal

from pydantic import Field, TypeAdapter, ValidationError

from orchestrator.domain.agent import Effects
from orchestrator.domain.budget import Micros, Resource
from orchestrator.domain.call import CallStatus
from orchestrator.domain.decision import Decision, ModelMessage, Reply, Usage
from orchestrator.domain.errors import UnreadableJournal
from orchestrator.domain.ids import AgentId, Seq
from orchestrator.domain.json import JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The task message was applied; the step's change is the whole first context."""

    kind: ClassVar[str] = "accepted"
    description: str
    source: str = ""
    """`topic/partition/offset` of the message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventApplied:
    """A message about the task was folded into its context."""

    kind: ClassVar[str] = "event"
    event_type: str
    payload: JsonObject = field(default_factory=dict)
    source: str = ""
    step: int | None = None
    """With `call`: whose question it answers, where its sender said so."""
    call: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A planner's turn. It is never asked for again."""

    kind: ClassVar[str] = "decision"
    decision: Decision
    message: ModelMessage | None = None
    replies: tuple[Reply, ...] = ()
    is_repair: bool = False
    model: str = ""
    usage: Usage = Usage()
    cost_micros: Micros = 0
    duration_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CallStarted:
    """Journaled before the call goes out, for agents whose effects can't be repeated."""

    kind: ClassVar[str] = "call_started"
    step: Seq
    call: int
    agent: AgentId
    effects: Annotated[Effects | None, Field(exclude_if=lambda v: v is None)] = None
    """As in `Call`: of a call that undoes another one, no decision says it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFinished:
    """What came of a decision's call: it is never made again, unless `status` is not final."""

    kind: ClassVar[str] = "result"
    step: Seq
    """The decision's number."""
    call: int
    agent: AgentId
    status: CallStatus
    output: JsonObject = field(default_factory=dict)
    error: str | None = None
    attempt: int = 1
    usage: JsonObject | None = None
    cost_micros: Micros = 0
    """What it is charged with in the end; with `accepted` not known yet."""
    duration_ms: int = 0
    is_unsure: Annotated[bool, Field(exclude_if=lambda v: not v)] = False
    """With `error`: it may have had its effect all the same."""
    until: datetime | None = None
    """With `accepted`: when the agent's later answer is given up."""
    ask_at: Annotated[datetime | None, Field(exclude_if=lambda v: v is None)] = None
    """With `accepted` that stands for an unknown outcome: from when on its agent is asked again."""
    by: str = ""
    """Who said so, where it was not the agent."""
    reason: Annotated[str, Field(exclude_if=lambda v: not v)] = ""
    """And why they are sure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFailed:
    """A model's or an agent's call failed and will be tried again at `retry_at`."""

    kind: ClassVar[str] = "attempt_failed"
    step: Seq | None = None
    """The decision whose call failed; null where the model failed."""
    call: int | None = None
    agent: AgentId | None = None
    attempt: int
    error: str
    retry_at: datetime
    duration_ms: int = 0
    usage: Annotated[Usage, Field(exclude_if=lambda v: v == Usage())] = Usage()
    """Of a turn whose answer got lost: what was set aside for it, which it is charged with."""
    cost_micros: Micros = 0
    """What that costs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallParked:
    """A model or an agent could not be called now, or nobody was there: no try is spent.

    Journaled once for each cause between two tries. It is a note for people: whoever takes the task
    up looks again, whatever `until` says.
    """

    kind: ClassVar[str] = "call_parked"
    step: Seq | None = None
    """The decision whose call it is; null where it is the model's turn."""
    call: int | None = None
    agent: AgentId | None = None
    target: str
    """`agent/{tenant}/{id}` or `model/{name}`."""
    cause: str
    """`paused`, `breaker_open`, `limited`, `busy`, `rate`, `retry_budget`, or `lease`: the worker
    had lost its own when it was about to send."""
    reason: str
    until: datetime
    may_be_sent: bool = True
    """False where the call surely had no effect so far; `CallStarted` puts an end to that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetSpent:
    """What is left of the budget does not reach for the planner's next turn."""

    kind: ClassVar[str] = "budget_spent"
    resource: Resource
    needed: int
    left: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rested:
    """The task gave its worker back and waits."""

    kind: ClassVar[str] = "waiting"
    waiting_for: str
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    kind: ClassVar[str] = "completed"
    result: JsonObject = field(default_factory=dict)
    by: str = "planner"
    """`rule` where the required fields were all collected, else `planner`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Undo:
    """A call that is to be undone."""

    number: int
    """Within its step, from 1: they are made in this order."""
    agent: AgentId
    """Who undoes it."""
    step: Seq
    call: int
    """Which call it undoes; its decision says how."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compensating:
    """The task is to end like this once its effects are undone; their results follow."""

    kind: ClassVar[str] = "compensating"
    status: Literal["failed", "cancelled"]
    reason: str = ""
    code: str = ""
    by: str = ""
    unknown: tuple[str, ...] = ()
    undo: tuple[Undo, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Compensated:
    """What became of the effect of a call, in the task's last step."""

    step: Seq
    call: int
    agent: AgentId
    by: AgentId
    """The agent that was to undo it."""
    is_undone: bool = True
    note: str = ""
    """Why it was not undone, or did not have to be."""


Undone = Annotated[tuple[Compensated, ...], Field(exclude_if=lambda v: not v)]

ATTEMPTS_SPENT = "attempts_spent"
MODEL_REFUSED = "model"
NOBODYS_DECISION = (ATTEMPTS_SPENT, MODEL_REFUSED)
"""Codes of failures whose tasks may be sent back to work from `dead-letters`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    kind: ClassVar[str] = "failed"
    reason: str
    code: str = "planner"
    """Who or what ended it: `planner`, `limit`, `attempts_spent`, `deadline`, `internal`, …"""
    unknown: tuple[str, ...] = ()
    """Keys of calls that were under way at the end and may have had their effects."""
    compensated: Undone = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled:
    kind: ClassVar[str] = "cancelled"
    reason: str = ""
    by: str = ""
    """Who asked for it, where it was said."""
    unknown: tuple[str, ...] = ()
    """As in `Failed`."""
    compensated: Undone = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Retried:
    """A person sent a failed task back to work: limits and attempts count anew from here."""

    kind: ClassVar[str] = "retried"
    by: Annotated[str, Field(exclude_if=lambda v: not v)] = ""
    reason: Annotated[str, Field(exclude_if=lambda v: not v)] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forked:
    """The steps so far are copies of another task's: limits and attempts count anew from here.

    Calls that had no result by then are made by this task, under its own keys.
    """

    kind: ClassVar[str] = "forked"
    task: str
    """The other task's id."""
    step: Seq
    """The last step that both share."""
    by: str = ""
    reason: str = ""
    given: JsonObject = field(default_factory=dict)
    """Data for the new task alone; the step's change has it, and the whole context."""


StepBody = (
    Accepted
    | EventApplied
    | Decided
    | CallStarted
    | CallFinished
    | AttemptFailed
    | CallParked
    | BudgetSpent
    | Compensating
    | Rested
    | Completed
    | Failed
    | Cancelled
    | Retried
    | Forked
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A row of the journal."""

    seq: Seq
    body: StepBody
    change: JsonObject | None = None
    """What it changes in the context (`domain.context.apply_change`)."""
    at: datetime | None = None
    """PostgreSQL's time; null until the step was read back."""


_ADAPTERS: dict[str, TypeAdapter[StepBody]] = {
    cls.kind: TypeAdapter(cls)
    for cls in (
        Accepted,
        EventApplied,
        Decided,
        CallStarted,
        CallFinished,
        AttemptFailed,
        CallParked,
        BudgetSpent,
        Compensating,
        Rested,
        Completed,
        Failed,
        Cancelled,
        Retried,
        Forked,
    )
}


def dump_body(body: StepBody) -> str:
    """The JSON that `load_body` reads back to an equal value."""
    return _ADAPTERS[body.kind].dump_json(body).decode()


def load_body(kind: str, body: object) -> StepBody:
    """The body from its parsed JSON.

    Raises:
        UnreadableJournal: this release does not know the kind, or can't read its body.
    """
    adapter = _ADAPTERS.get(kind)
    if adapter is None:
        raise UnreadableJournal(
            f"step of kind {kind!r}: this release does not know it; upgrade this worker"
        )
    try:
        return adapter.validate_python(body)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise UnreadableJournal(
            f"step of kind {kind!r}: this release can't read its {where or 'body'}"
        ) from error
