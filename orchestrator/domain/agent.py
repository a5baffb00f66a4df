"""What an agent declares about itself."""

from dataclasses import dataclass, field
from typing import Literal

from orchestrator.domain.compensation import Compensation
from orchestrator.domain.ids import AgentId
from orchestrator.domain.json import JsonObject

Protocol = Literal["http", "a2a", "function", "kafka", "mcp"]
Effects = Literal["idempotent", "at_most_once"]
AgentType = Literal["input", "processor", "output"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Per worker process."""

    concurrency: int = 20
    rate_per_second: float | None = None
    timeout_seconds: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """One entry of the catalogue; `store.agents` keeps it, the YAML file has the same fields."""

    id: AgentId
    name: str
    description: str
    endpoint: str
    role: str = ""
    protocol: Protocol = "http"
    capabilities: tuple[str, ...] = ()
    type: AgentType = "processor"
    input_schema: JsonObject = field(default_factory=lambda: {"type": "object"})
    output_schema: JsonObject = field(default_factory=lambda: {"type": "object"})
    limits: Limits = Limits()
    effects: Effects = "idempotent"
    status_url: str | None = None
    """Where recovery asks what became of a call of an `at_most_once` agent."""
    cancel_url: str | None = None
    """Where the agent is told that nobody waits for a call any more."""
    compensation: Compensation | None = None
    """What undoes a call of it when the task fails or is cancelled afterwards."""
    cost: float = 0.0
    """What a call costs, unless its answer says otherwise: set aside from a task's budget."""
    secret_env: str | None = None
    """Name of the variable that holds the signing secret; the secret itself is never stored."""
    config: JsonObject = field(default_factory=dict)
    """Handed to the agent with each call."""
    tenant: str = "default"

    @property
    def output_fields(self) -> tuple[str, ...]:
        """The fields that this agent can add to `collected_data`."""
        properties = self.output_schema.get("properties")
        return tuple(properties) if isinstance(properties, dict) else ()
