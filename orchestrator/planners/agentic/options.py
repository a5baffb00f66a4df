"""What the agentic planner can be told; free of LangChain, so that reading settings stays fast."""

import hashlib
import math
from dataclasses import dataclass, field

from orchestrator.domain.decision import Usage
from orchestrator.domain.errors import InvalidSettings

ASSUMED_OUTPUT_TOKENS = 1000
"""What is set aside for an answer where no bound on it is set: a decision has some 50 to 500."""
BYTES_PER_TOKEN = 3
"""Of a prompt, before the provider counts it. English and JSON have 4, most else has more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """For a million tokens, in the currency of every other amount."""

    input: float
    output: float

    def micros(self, usage: Usage) -> int:
        """A millionth of the currency for each token and unit of the price, rounded up."""
        exact = usage.input_tokens * self.input + usage.output_tokens * self.output
        return math.ceil(round(exact, 3))


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
    price: Price | None = None
    """Of this model; None where nobody said: its calls then cost nothing that is counted."""

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

    def turn_bound(self, *, prompt_bytes: int) -> Usage:
        """What a turn with this prompt may use at most, as far as it can be known before."""
        return Usage(
            input_tokens=-(-prompt_bytes // BYTES_PER_TOKEN),
            output_tokens=self.max_output_tokens or ASSUMED_OUTPUT_TOKENS,
        )

    def cost(self, usage: Usage) -> int:
        """In millionths; 0 where nobody said what it costs."""
        return 0 if self.price is None else self.price.micros(usage)

    @property
    def sender(self) -> str:
        """Model and endpoint in one word, for the journal. Stored; never change how it is made."""
        endpoint = hashlib.sha256((self.base_url or "").encode()).hexdigest()
        return f"{self.model}#{endpoint[:8]}"

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
