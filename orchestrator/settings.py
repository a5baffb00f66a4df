"""The environment, and `.env` below it, become each part's options; this is read once.

Whatever is missing or wrong is told in one go, a line each with the variable and what it expects, and
never the value of a secret. An `ORCHESTRATOR_` variable that nobody knows is an error.
"""

import difflib
import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, DotEnvSettingsSource

from orchestrator.bus.options import BusOptions, SecurityOptions, TopicNames
from orchestrator.domain.errors import InvalidSettings
from orchestrator.domain.retry import RetryPolicy
from orchestrator.engine.options import EngineOptions, TaskLimits
from orchestrator.planners.agentic.options import AgenticOptions, ModelOptions
from orchestrator.store.database import DatabaseOptions
from orchestrator.store.database_url import checked_url
from orchestrator.telemetry.health import HealthOptions
from orchestrator.telemetry.logs import LogFormat, LogLevel, LogOptions

Need = Literal["database", "kafka", "model"]

PREFIX = "ORCHESTRATOR_"
FILE_SUFFIX = "_FILE"
MAX_SHOWN = 60

_BUS = BusOptions(bootstrap_servers="", group_id="orchestrator")
_ENGINE = EngineOptions(worker_name="")
_MODEL = ModelOptions()
_AGENTIC = AgenticOptions()


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


Text = Annotated[str, Field(min_length=1, description="a text")]
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
    Field(pattern=r"^https?://[^\s@]+$", description="a URL such as https://api.example.com/v1"),
]
Servers = Annotated[
    str,
    Field(
        pattern=r"^\s*[^\s,:/]+:\d+(\s*,\s*[^\s,:/]+:\d+)*\s*$|^\s*\[[0-9a-fA-F:]+\]:\d+\s*$",
        description="host:port of one or more brokers, such as kafka-1:9092,kafka-2:9092",
    ),
]
SecurityProtocol = Annotated[
    Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"],
    BeforeValidator(_upper),
    Field(description="PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"),
]
Mechanism = Annotated[
    Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"],
    BeforeValidator(_upper),
    Field(description="PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"),
]
ModelName = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9_]+:\S+$",
        description="provider:name, such as openai:gpt-4.1-mini",
    ),
]
Level = Annotated[
    LogLevel, BeforeValidator(_lower), Field(description="debug, info, warning or error")
]
Format = Annotated[LogFormat, BeforeValidator(_lower), Field(description="auto, console or json")]
Port = Annotated[int, Field(ge=0, le=65535, description="a port from 1 to 65535, or 0 for any")]
Secret = Annotated[SecretStr, Field(min_length=1, description="a secret")]
DatabaseUrl = Annotated[
    SecretStr, Field(description="postgresql://user:password@host:5432/database")
]


class Variables(BaseModel):
    """Every variable, by its name in lower case, with its default."""

    model_config = ConfigDict(
        alias_generator=str.upper, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    database_url: DatabaseUrl | None = None
    orchestrator_database_pool_size: Count = DatabaseOptions(url="").pool_size

    kafka_bootstrap_servers: Servers | None = None
    kafka_group_id: Text = _BUS.group_id
    kafka_security_protocol: SecurityProtocol = "PLAINTEXT"
    kafka_sasl_mechanism: Mechanism | None = None
    kafka_sasl_username: Text | None = None
    kafka_sasl_password: Secret | None = None
    kafka_ssl_cafile: Text | None = None
    kafka_ssl_certfile: Text | None = None
    kafka_ssl_keyfile: Text | None = None
    kafka_ssl_password: Secret | None = None
    kafka_ssl_check_hostname: Switch = True

    openai_api_key: Secret | None = None
    openai_base_url: Address | None = None
    llm_model: ModelName = _MODEL.model
    orchestrator_model_timeout_seconds: Seconds = _MODEL.timeout_seconds
    orchestrator_model_temperature: Annotated[
        float | None, Field(ge=0, le=2, description="a number from 0 to 2")
    ] = None
    orchestrator_model_max_output_tokens: Count | None = None
    orchestrator_model_max_attempts: Count = _ENGINE.model_retry.max_attempts
    orchestrator_model_max_agent_tools: Count = _AGENTIC.max_agent_tools

    orchestrator_worker_name: Text | None = None
    orchestrator_concurrency: Count = _ENGINE.concurrency
    orchestrator_lease_seconds: Annotated[
        float, Field(ge=1, le=1e6, description="a number of seconds of at least 1")
    ] = _ENGINE.lease.total_seconds()
    orchestrator_grace_seconds: Annotated[
        float, Field(ge=0, le=1e6, description="a number of seconds, 0 for none")
    ] = _ENGINE.grace.total_seconds()
    orchestrator_max_steps: Count = _ENGINE.limits.max_steps
    orchestrator_max_tokens: Count = _ENGINE.limits.max_tokens
    orchestrator_max_age_seconds: Seconds = _ENGINE.limits.max_age.total_seconds()
    orchestrator_agents_dir: Text | None = None
    orchestrator_agent_max_attempts: Count = _ENGINE.agent_retry.max_attempts
    orchestrator_agent_result_timeout_seconds: Seconds = (
        _ENGINE.async_result_timeout.total_seconds()
    )

    orchestrator_topic_tasks: Topic = _BUS.topics.tasks
    orchestrator_topic_events: Topic = _BUS.topics.events
    orchestrator_topic_updates: Topic = _BUS.topics.updates
    orchestrator_topic_dead_letters: Topic = _BUS.topics.dead_letters
    orchestrator_create_topics: Switch = True
    orchestrator_partitions: Count = _BUS.partitions

    log_level: Level = "info"
    orchestrator_log_format: Format = "auto"
    orchestrator_verbose: Switch = False
    port: Port = HealthOptions().port
    orchestrator_health_host: Text = HealthOptions().host


SECRETS = ("DATABASE_URL", "OPENAI_API_KEY", "KAFKA_SASL_PASSWORD", "KAFKA_SSL_PASSWORD")
"""Each is also read from the file that `<name>_FILE` names."""

VARIABLES = tuple(name.upper() for name in Variables.model_fields)
KNOWN = frozenset((*VARIABLES, *(name + FILE_SUFFIX for name in SECRETS)))
