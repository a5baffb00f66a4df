"""What the agentic planner can be told; free of LangChain, so that reading settings stays fast."""

from dataclasses import dataclass, field

from orchestrator.domain.errors import InvalidSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """Which chat model to ask, and how."""

    model: str = "openai:gpt-4.1-mini"
    """`provider:name`, as `init_chat_model` reads it."""
    base_url: str | None = None
    """Of an OpenAI-compatible endpoint; None for the provider's own."""
    api_key: str | None = field(default=None, repr=False)
    timeout_seconds: float = 60.0
    """For one whole call."""
    temperature: float | None = None
    """None leaves it to the provider; some models refuse any value."""
    max_output_tokens: int | None = None
    concurrency: int = 200
    """Turns at once in one worker process."""
    rate_per_second: float | None = None
    """Turns of one worker process; None for any."""

    def __post_init__(self) -> None:
        provider, colon, name = self.model.partition(":")
        if not (provider and colon and name):
            raise InvalidSettings(
                f"LLM_MODEL is {self.model!r}; expected provider:name, "
                "for example openai:gpt-4.1-mini"
            )
        if self.timeout_seconds <= 0:
            raise InvalidSettings(
                f"the model's timeout is {self.timeout_seconds} seconds; expected more than 0"
            )

    @property
    def provider(self) -> str:
        return self.model.partition(":")[0]

    @property
    def name(self) -> str:
        return self.model.partition(":")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgenticOptions:
    """Bounds of a turn and of what a prompt holds."""

    max_agent_tools: int = 12
    """Up to this many agents each is a tool of its own; above, they share `call_agent`."""
    max_calls: int = 16
    """Agent calls in one decision."""
    max_repairs: int = 2
    """Unusable answers in a row that the model may mend; the next one fails the task."""
    history_characters: int = 200_000
    """Of the conversation; the oldest outputs are shortened above it."""
    output_characters: int = 16_000
    """Of one agent's output, or one event, as the model sees it."""
