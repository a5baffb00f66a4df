"""The seam between the engine and every kind of agent."""

from dataclasses import dataclass
from typing import Protocol

from orchestrator.domain.agent import Agent
from orchestrator.domain.call import CallResult
from orchestrator.domain.ids import Epoch, Seq, TaskId
from orchestrator.domain.json import JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRequest:
    """One call, with all that an agent is told about where it comes from."""

    agent: Agent
    task_id: TaskId
    step: Seq
    call: int
    input: JsonObject
    epoch: Epoch
    timeout_seconds: float
    is_cut_short: bool = False
    """The task's deadline comes before the agent's own time is over: its silence until then is no
    fault."""
    traceparent: str | None = None
    compensates: str | None = None
    """The idempotency key of the call that this one undoes."""


class Caller(Protocol):
    """Makes calls by one protocol. It never raises for what an agent did: that is a result."""

    async def call(self, request: CallRequest) -> CallResult:
        """The agent's answer, or an `error` result that says whether trying again may help."""
        ...

    async def status(self, request: CallRequest) -> CallResult | None:
        """What became of a call that may have been made before; None where nobody knows of it.

        An error that is unsure or retryable did not find out; one that is retryable may later.
        Only asked of agents that declare `effects: at_most_once`, or did so when they were called.
        """
        ...

    async def cancel(self, request: CallRequest) -> bool:
        """Tells the agent that nobody waits for this call any more; whether it heard it.

        Only sent to agents that declare a `cancel_url`.
        """
        ...


class Catalogue(Protocol):
    """Which agents there are, as of now."""

    async def agents(self, tenant: str) -> tuple[Agent, ...]:
        """All agents of the tenant, by id."""
        ...
