"""Every variable of the environment: its name, what it expects, and its default.

Defaults are taken from the parts' own options, so that they are said once.
"""

import unicodedata
from typing import Annotated, Literal, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from orchestrator.agents.variables import ALLOWED
from orchestrator.bus.options import BusOptions, SaslMechanism, SecurityProtocol, ValueFormat
from orchestrator.domain.budget import MAX_COST
from orchestrator.domain.json import read_json
from orchestrator.engine.options import MIN_KEPT, EngineOptions
from orchestrator.planners.agentic.options import AgenticOptions
from orchestrator.planners.chat.options import DIALECT, ModelOptions
from orchestrator.store.database import DatabaseOptions
from orchestrator.telemetry.health import HealthOptions
from orchestrator.telemetry.logs import LogFormat, LogLevel

FILE_SUFFIX = "_FILE"

BUS = BusOptions()
ENGINE = EngineOptions(worker_name="")
MODEL = ModelOptions()
AGENTIC = AgenticOptions()


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


EXPLAINED = "explained"
"""The type of an error whose message says what is wrong, without the value."""


def _one_line(value: str) -> str:
    for position, character in enumerate(value, start=1):
        if unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp"):
            raise _unusable(position, character)
    return value


def _header_value(value: str) -> str:
    for position, character in enumerate(value, start=1):
        if not "!" <= character <= "~":
            raise _unusable(position, character)
    return value


def _unusable(position: int, character: str) -> PydanticCustomError:
    name = unicodedata.name(character, "a control character").lower()
    return PydanticCustomError(
        EXPLAINED, f"character {position} is U+{ord(character):04X} ({name}), which is not allowed"
    )


def _address(value: str) -> str:
    try:
        port = urlsplit(value).port
    except ValueError as error:
        raise PydanticCustomError(EXPLAINED, "{reason}", {"reason": str(error)}) from error
    if port == 0:
        raise PydanticCustomError(EXPLAINED, "port 0 can't be connected to")
    return value


def _one_line_secret(value: SecretStr) -> SecretStr:
    _one_line(value.get_secret_value())
    return value


def _header_secret(value: SecretStr) -> SecretStr:
    _header_value(value.get_secret_value())
    return value


Text = Annotated[str, Field(min_length=1, description="a text"), AfterValidator(_one_line)]
Count = Annotated[int, Field(ge=1, description="a whole number of at least 1")]
Seconds = Annotated[float, Field(gt=0, le=1e9, description="a number of seconds above 0")]
Switch = Annotated[bool, Field(description="true or false")]
Topic = Annotated[
    str,
    Field(
        pattern=r"^[a-zA-Z0-9._-]{1,249}$",
        description="a topic's name: letters, digits, '.', '_' and '-', 249 at most",
    ),
]
Address = Annotated[
    str,
    Field(pattern=r"^https?://[^\s@#]+$", description="a URL such as https://api.example.com/v1"),
    AfterValidator(_address),
]
Servers = Annotated[
    str,
    Field(
        pattern=r"^\s*[^\s,:/]+:\d+(\s*,\s*[^\s,:/]+:\d+)*\s*$|^\s*\[[0-9a-fA-F:]+\]:\d+\s*$",
        description="host:port of one or more brokers, such as kafka-1:9092,kafka-2:9092",
    ),
]
Protocol = Annotated[
    SecurityProtocol,
    BeforeValidator(_upper),
    Field(description="PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"),
]
Mechanism = Annotated[
    SaslMechanism,
    BeforeValidator(_upper),
    Field(description="PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"),
]
Replication = Annotated[
    int, Field(ge=-1, le=100, description="a number of replicas, or -1 for the broker's default")
]
OnGap = Annotated[
    Literal["stop", "continue"],
    BeforeValidator(_lower),
    Field(description="stop or continue"),
]
Weights = Annotated[
    str,
    Field(
        pattern=r"^\s*[^\s=,]+=\d+(\.\d+)?(\s*,\s*[^\s=,]+=\d+(\.\d+)?)*\s*$",
        description="tenant=weight, several with commas between, such as acme=3,trial=0.5",
    ),
]
VariableNames = Annotated[
    str,
    Field(
        pattern=r"^\s*[A-Za-z_][A-Za-z0-9_]*\*?(\s*,\s*[A-Za-z_][A-Za-z0-9_]*\*?)*\s*$",
        description="names of variables with commas between, such as CRM_URL,AGENT_*",
    ),
]
ModelName = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9_]+:\S+$",
        description="provider:name, such as openai:gpt-4.1-mini",
    ),
]
_SWITCH = f"({'|'.join(('auto', *DIALECT))})"
ModelDialect = Annotated[
    str,
    BeforeValidator(_lower),
    Field(
        pattern=rf"^\s*{_SWITCH}(\s*,\s*{_SWITCH})*\s*$",
        description=f"auto, or one or more of {', '.join(DIALECT)}, with commas between",
    ),
]
Level = Annotated[
    LogLevel, BeforeValidator(_lower), Field(description="debug, info, warning or error")
]
Format = Annotated[LogFormat, BeforeValidator(_lower), Field(description="auto, console or json")]
MessageFormat = Annotated[ValueFormat, BeforeValidator(_lower), Field(description="auto or json")]
Port = Annotated[int, Field(ge=0, le=65535, description="a port from 1 to 65535, or 0 for any")]
Secret = Annotated[
    SecretStr, Field(min_length=1, description="a secret"), AfterValidator(_one_line_secret)
]
ApiKey = Annotated[
    SecretStr,
    Field(min_length=1, description="the key of OpenAI's API"),
    AfterValidator(_header_secret),
]
DatabaseUrl = Annotated[
    SecretStr,
    Field(description="postgresql://user:password@host:5432/database"),
    AfterValidator(_one_line_secret),
]


def _prices(value: object) -> object:
    return read_json(value) if isinstance(value, str) else value


class ModelPrice(BaseModel):
    """For a million tokens."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    input: float = Field(ge=0, le=1e6, allow_inf_nan=False)
    output: float = Field(ge=0, le=1e6, allow_inf_nan=False)


Prices = Annotated[
    dict[str, ModelPrice],
    BeforeValidator(_prices),
    Field(
        description='prices for a million tokens as JSON, such as {"openai:gpt-4.1-mini": '
        '{"input": 0.4, "output": 1.6}}'
    ),
]
Money = Annotated[
    float, Field(gt=0, le=MAX_COST, allow_inf_nan=False, description="an amount of money above 0")
]


class Variables(BaseModel):
    """Every variable, by its name in lower case, with its default."""

    model_config = ConfigDict(
        alias_generator=str.upper, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    database_url: DatabaseUrl | None = None
    orchestrator_database_pool_size: Count = DatabaseOptions(url="").pool_size
    orchestrator_migrate: Switch = False

    kafka_bootstrap_servers: Servers | None = None
    kafka_group_id: Text = BUS.group_id
    kafka_client_id: Text = BUS.client_id
    kafka_session_timeout_seconds: Annotated[
        float, Field(ge=1, le=14, description="a number of seconds from 1 to 14")
    ] = BUS.session_timeout_seconds
    kafka_security_protocol: Protocol = BUS.security.security_protocol
    kafka_sasl_mechanism: Mechanism = BUS.security.sasl_mechanism
    kafka_sasl_username: Text | None = None
    kafka_sasl_password: Secret | None = None
    kafka_ssl_cafile: Text | None = None
    kafka_ssl_certfile: Text | None = None
    kafka_ssl_keyfile: Text | None = None
    kafka_ssl_key_password: Secret | None = None
    kafka_ssl_check_hostname: Switch = BUS.security.ssl_check_hostname

    openai_api_key: ApiKey | None = None
    openai_base_url: Address | None = None
    llm_model: ModelName = MODEL.model
    orchestrator_model_dialect: ModelDialect = "auto"
    orchestrator_model_timeout_seconds: Seconds = MODEL.timeout_seconds
    orchestrator_model_temperature: Annotated[
        float | None, Field(ge=0, le=2, description="a number from 0 to 2")
    ] = None
    orchestrator_model_max_output_tokens: Count | None = None
    orchestrator_model_concurrency: Count = MODEL.concurrency
    orchestrator_model_rate_per_second: Annotated[
        float | None, Field(gt=0, le=1e6, description="a number above 0")
    ] = None
    orchestrator_model_prices: Prices | None = None
    orchestrator_model_max_attempts: Count = ENGINE.model_retry.max_attempts
    orchestrator_model_max_agent_tools: Count = AGENTIC.max_agent_tools

    orchestrator_worker_name: Text | None = None
    orchestrator_concurrency: Count = ENGINE.concurrency
    orchestrator_lease_seconds: Annotated[
        float, Field(ge=1, le=1e6, description="a number of seconds of at least 1")
    ] = ENGINE.lease.total_seconds()
    orchestrator_grace_seconds: Annotated[
        float, Field(ge=0, le=1e6, description="a number of seconds, 0 for none")
    ] = ENGINE.grace.total_seconds()
    orchestrator_max_loaded_bytes: Count = ENGINE.max_loaded_bytes
    orchestrator_tenant_weights: Weights | None = None
    orchestrator_max_steps: Count = ENGINE.limits.max_steps
    orchestrator_max_attempts: Count = ENGINE.limits.max_attempts
    orchestrator_max_tokens: Count = ENGINE.limits.max_tokens
    orchestrator_max_cost: Money | None = None
    orchestrator_max_age_seconds: Seconds = ENGINE.limits.max_age.total_seconds()
    orchestrator_ceiling_steps: Count | None = None
    orchestrator_ceiling_attempts: Count | None = None
    orchestrator_ceiling_tokens: Count | None = None
    orchestrator_ceiling_cost: Money | None = None
    orchestrator_ceiling_age_seconds: Seconds | None = None
    orchestrator_keep_finished_seconds: Annotated[
        float | None,
        Field(
            ge=MIN_KEPT.total_seconds(),
            le=1e10,
            description="a number of seconds of at least 2592000, which are 30 days",
        ),
    ] = None
    orchestrator_agents_dir: Text | None = None
    orchestrator_declaration_variables: VariableNames = ",".join(ALLOWED)
    orchestrator_agent_max_attempts: Count = ENGINE.agent_retry.max_attempts
    orchestrator_agent_result_timeout_seconds: Seconds = ENGINE.async_result_timeout.total_seconds()

    orchestrator_topic_tasks: Topic = BUS.topics.tasks
    orchestrator_topic_events: Topic = BUS.topics.events
    orchestrator_topic_updates: Topic = BUS.topics.task_updates
    orchestrator_topic_dead_letters: Topic = BUS.topics.dead_letters
    orchestrator_create_topics: Switch = BUS.create_topics
    orchestrator_partitions: Count = BUS.partitions
    orchestrator_replication_factor: Replication = BUS.replication
    orchestrator_retention_seconds: Seconds | None = None
    orchestrator_value_format: MessageFormat = BUS.value_format
    orchestrator_max_message_bytes: Count = BUS.max_message_bytes
    orchestrator_on_gap: OnGap = BUS.on_gap
    orchestrator_expected_seconds: Seconds = BUS.expected_for.total_seconds()

    log_level: Level = "info"
    orchestrator_log_format: Format = "auto"
    orchestrator_verbose: Switch = False
    port: Port = HealthOptions().port
    orchestrator_health_host: Text = HealthOptions().host
    orchestrator_metrics_port: Port | None = None
    orchestrator_metrics_host: Text | None = None

    @property
    def model_dialect(self) -> frozenset[str]:
        names = {name.strip() for name in self.orchestrator_model_dialect.split(",")}
        return frozenset(names - {"auto"})


SECRETS = ("DATABASE_URL", "OPENAI_API_KEY", "KAFKA_SASL_PASSWORD", "KAFKA_SSL_KEY_PASSWORD")
"""Each is also read from the file that `<name>_FILE` names."""

VARIABLES = tuple(name.upper() for name in Variables.model_fields)
KNOWN = frozenset((*VARIABLES, *(name + FILE_SUFFIX for name in SECRETS)))


def expected(name: str) -> str:
    """What the variable expects, in words."""
    info = Variables.model_fields[name.lower()]
    # `X | None` keeps X's description inside.
    inner = (part for kind in get_args(info.annotation) for part in get_args(kind))
    found = (part.description for part in (info, *inner) if isinstance(part, FieldInfo))
    return next((text for text in found if text), "a value")
