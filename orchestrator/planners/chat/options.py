"""Which chat model to ask, and how; free of LangChain, so that reading settings stays fast."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

from orchestrator.domain.decision import Usage
from orchestrator.domain.errors import InvalidSettings

ASSUMED_OUTPUT_TOKENS = 1000
"""What is set aside for an answer where no bound on it is set: a decision has some 50 to 500."""
BYTES_PER_TOKEN = 3
"""Of a prompt, before the provider counts it. English and JSON have 4, most else has more."""

DIALECT: Mapping[str, str] = {
    "merge-messages": "a user message is merged into the user or tool message before it",
    "no-system-role": "the system message becomes the beginning of the first user message",
    "short-call-ids": "ids of tool calls have nine letters and digits",
    "empty-content": "an answer without text is sent back with an empty text in place of null",
    "plain-schemas": "tools are described without additionalProperties and other rare keywords",
    "no-tool-choice": "tool_choice is not sent",
    "no-parallel-tool-calls": "parallel_tool_calls is not sent",
    "no-temperature": "temperature is not sent",
    "max-tokens": "max_tokens is sent in place of max_completion_tokens",
    "no-max-tokens": "nothing bounds an answer",
    "responses": "requests go to /responses",
    "chat-completions": "requests go to /chat/completions, whatever the model's name",
    "api-key-header": "the key is also sent as the header api-key",
}
"""The switches of ORCHESTRATOR_MODEL_DIALECT: how requests differ from OpenAI's own."""

_OPENAI_HOST = "api.openai.com"
_OPERATIONS = ("/chat/completions", "/responses")
_AZURE_DEPLOYMENT = "/openai/deployments/"


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
    base_url: str | None = field(default=None, repr=False)
    """Of an OpenAI-compatible endpoint, query included; None for the provider's own."""
    dialect: frozenset[str] = frozenset()
    """Of `DIALECT`: how requests differ from the first one on."""
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
        if not self.dialect <= DIALECT.keys() or self.dialect >= {"responses", "chat-completions"}:
            raise InvalidSettings(
                f"the model's dialect is {', '.join(sorted(self.dialect))}; expected some of "
                f"{', '.join(DIALECT)}, and one of responses and chat-completions at most"
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
    def endpoint(self) -> str | None:
        """The base URL without its query, and without an operation that was copied with it."""
        if self.base_url is None:
            return None
        address = self.base_url.partition("?")[0].rstrip("/")
        for operation in _OPERATIONS:
            address = address.removesuffix(operation)
        return address

    @property
    def query(self) -> dict[str, str]:
        """Of the base URL; it goes with every request, and may hold a key."""
        return dict(parse_qsl(urlsplit(self.base_url or "").query, keep_blank_values=True))

    @property
    def headers(self) -> dict[str, str]:
        """Beside `Authorization`: Azure's deployments want the key under a name of their own."""
        wants_it = "api-key-header" in self.dialect or _AZURE_DEPLOYMENT in (self.endpoint or "")
        return {"api-key": self.api_key} if wants_it and self.api_key else {}

    @property
    def is_openais_own(self) -> bool:
        host = urlsplit(self.base_url or f"https://{_OPENAI_HOST}").hostname or ""
        return host == _OPENAI_HOST or host.endswith(f".{_OPENAI_HOST}")

    @property
    def uses_responses(self) -> bool | None:
        """Whether requests go to /responses; None where the model's name decides."""
        path = urlsplit(self.base_url or "").path.rstrip("/")
        if "responses" in self.dialect or path.endswith("/responses"):
            return True
        said_so = "chat-completions" in self.dialect or path.endswith("/chat/completions")
        return False if said_so or not self.is_openais_own else None

    @property
    def sender(self) -> str:
        """Model and endpoint in one word, for the journal. Stored; never change how it is made."""
        endpoint = hashlib.sha256((self.endpoint or "").encode()).hexdigest()
        return f"{self.model}#{endpoint[:8]}"

    @property
    def provider(self) -> str:
        return self.model.partition(":")[0]

    @property
    def name(self) -> str:
        return self.model.partition(":")[2]
