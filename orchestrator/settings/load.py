"""The environment, and `.env` below it, become each part's options; this is read once.

Whatever is missing or wrong is told in one go. No part ever sees `Settings`, only its own options.
"""

import os
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

from dotenv.parser import parse_stream
from pydantic import SecretStr
from pydantic_settings import BaseSettings, DotEnvSettingsSource

from orchestrator.agents.variables import DeclarationVariables
from orchestrator.bus.options import BusOptions, Security, Topics
from orchestrator.domain.budget import Budget, micros
from orchestrator.domain.errors import InvalidSettings
from orchestrator.engine.options import EngineOptions, TaskLimits
from orchestrator.planners.agentic.options import AgenticOptions
from orchestrator.planners.chat.options import ModelOptions, Price
from orchestrator.settings.checks import (
    NEEDS,
    Need,
    contradictions,
    spoilt,
    trimmed,
    unknown,
    validated,
    with_secret_files,
)
from orchestrator.settings.variables import ENGINE, KNOWN, Variables
from orchestrator.store.database import DatabaseOptions
from orchestrator.store.database_url import checked_url
from orchestrator.telemetry.health import HealthOptions
from orchestrator.telemetry.logs import LogOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Each part's options; those that were not asked for are not there."""

    engine: EngineOptions
    agentic: AgenticOptions
    logs: LogOptions
    health: HealthOptions
    migrates: bool
    """Whether a worker brings the schema up to date when it starts."""
    agents_dir: Path | None
    """A folder of declarations that is read at start."""
    llm_model: str
    declarations: DeclarationVariables
    """For agents' declarations. No variable of the service itself is among them."""
    environ: Mapping[str, str] = field(repr=False)
    """The variables themselves."""
    _database: DatabaseOptions | None = field(repr=False)
    _bus: BusOptions | None = field(repr=False)
    _model: ModelOptions | None = field(repr=False)

    @property
    def database(self) -> DatabaseOptions:
        assert self._database is not None, "load_settings(needs={'database'})"
        return self._database

    @property
    def bus(self) -> BusOptions:
        assert self._bus is not None, "load_settings(needs={'kafka'})"
        return self._bus

    @property
    def model(self) -> ModelOptions:
        assert self._model is not None, "load_settings(needs={'model'})"
        return self._model


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """What is wrong with the variables, and what can be used all the same."""

    problems: tuple[str, ...]
    settings: Settings
    """Has the parts in `usable`; a wrong variable of any other has its default here."""
    usable: frozenset[Need]


def load_settings(
    environ: Mapping[str, str],
    *,
    needs: Iterable[Need] = NEEDS,
    env_file: Path | None = Path(".env"),
) -> Settings:
    """The options of every part, from `environ` and, for what it lacks, from `env_file`.

    Raises:
        InvalidSettings: variables are missing, wrong or unknown; one line for each.
    """
    merged = _merged(environ, env_file)
    variables, problems = _read(merged, frozenset(needs))
    if problems:
        raise InvalidSettings("\n".join(problems))
    return _settings(variables, frozenset(needs), merged)


def examine_settings(
    environ: Mapping[str, str], *, env_file: Path | None = Path(".env")
) -> Examined:
    """For who looks at each part by itself: one wrong variable must not hide the others.

    Raises:
        InvalidSettings: `env_file` can't be read, so nothing is known of any part.
    """
    merged = _merged(environ, env_file)
    variables, problems = _read(merged, frozenset(NEEDS))
    usable = frozenset(NEEDS) - spoilt(problems)
    return Examined(
        problems=tuple(problems), settings=_settings(variables, usable, merged), usable=usable
    )


def _merged(environ: Mapping[str, str], env_file: Path | None) -> dict[str, str]:
    return {**_file_values(env_file), **{n: v for n, v in environ.items() if v}}


def _read(merged: Mapping[str, str], needs: frozenset[Need]) -> tuple[Variables, list[str]]:
    problems = [*unknown(merged)]
    values = with_secret_files(merged, problems)
    variables = validated(values, problems)
    told = {line.partition(":")[0] for line in problems}
    found = contradictions(variables, needs, merged)
    problems += [line for line in found if line.partition(":")[0] not in told]
    return variables, problems


def _file_values(env_file: Path | None) -> dict[str, str]:
    if env_file is None or not env_file.is_file():
        return {}
    try:
        _check_lines(env_file)
        found = DotEnvSettingsSource(
            BaseSettings, env_file=env_file, env_file_encoding="utf-8", case_sensitive=True
        ).env_vars
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSettings(f"{env_file}: can't be read as UTF-8 text") from error
    return {name: value for name, value in found.items() if value}


def _check_lines(env_file: Path) -> None:
    """Raises InvalidSettings: else a line that can't be read would be passed over."""
    with env_file.open(encoding="utf-8") as lines:
        broken = [binding.original for binding in parse_stream(lines) if binding.error]
    if broken:
        text, line = broken[0].string, broken[0].line
        line += text.count("\n", 0, len(text) - len(text.lstrip()))  # empty ones come before it
        raise InvalidSettings(f"{env_file}: line {line}: expected NAME=value, or # before a remark")


def _settings(v: Variables, needs: frozenset[Need], environ: Mapping[str, str]) -> Settings:
    given = {name: trimmed(value) for name, value in environ.items()}
    return Settings(
        engine=_engine(v),
        agentic=AgenticOptions(max_agent_tools=v.orchestrator_model_max_agent_tools),
        logs=LogOptions(
            level=v.log_level, format=v.orchestrator_log_format, verbose=v.orchestrator_verbose
        ),
        health=HealthOptions(
            host=v.orchestrator_health_host,
            port=v.port,
            metrics_host=v.orchestrator_metrics_host,
            metrics_port=v.orchestrator_metrics_port,
        ),
        migrates=v.orchestrator_migrate,
        agents_dir=Path(v.orchestrator_agents_dir) if v.orchestrator_agents_dir else None,
        declarations=DeclarationVariables(
            environ={n: value for n, value in given.items() if n not in KNOWN},
            allowed=_names(v.orchestrator_declaration_variables),
        ),
        environ=given,
        llm_model=v.llm_model,
        _database=_database(v) if "database" in needs else None,
        _bus=_bus(v) if "kafka" in needs else None,
        _model=_model(v) if "model" in needs else None,
    )


def _revealed(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _database(v: Variables) -> DatabaseOptions:
    return DatabaseOptions(
        url=checked_url(_revealed(v.database_url) or ""),
        pool_size=v.orchestrator_database_pool_size,
    )


def _bus(v: Variables) -> BusOptions:
    retention = v.orchestrator_retention_seconds
    return BusOptions(
        bootstrap_servers=(v.kafka_bootstrap_servers or "").replace(" ", ""),
        client_id=v.kafka_client_id,
        group_id=v.kafka_group_id,
        topics=Topics(
            tasks=v.orchestrator_topic_tasks,
            events=v.orchestrator_topic_events,
            task_updates=v.orchestrator_topic_updates,
            dead_letters=v.orchestrator_topic_dead_letters,
        ),
        security=Security(
            security_protocol=v.kafka_security_protocol,
            sasl_mechanism=v.kafka_sasl_mechanism,
            sasl_username=v.kafka_sasl_username,
            sasl_password=_revealed(v.kafka_sasl_password),
            ssl_cafile=v.kafka_ssl_cafile,
            ssl_certfile=v.kafka_ssl_certfile,
            ssl_keyfile=v.kafka_ssl_keyfile,
            ssl_key_password=_revealed(v.kafka_ssl_key_password),
            ssl_check_hostname=v.kafka_ssl_check_hostname,
        ),
        create_topics=v.orchestrator_create_topics,
        partitions=v.orchestrator_partitions,
        replication=v.orchestrator_replication_factor,
        retention=None if retention is None else timedelta(seconds=retention),
        value_format=v.orchestrator_value_format,
        max_message_bytes=v.orchestrator_max_message_bytes,
        session_timeout_seconds=v.kafka_session_timeout_seconds,
        on_gap=v.orchestrator_on_gap,
        expected_for=timedelta(seconds=v.orchestrator_expected_seconds),
    )


def _model(v: Variables) -> ModelOptions:
    price = (v.orchestrator_model_prices or {}).get(v.llm_model)
    return ModelOptions(
        model=v.llm_model,
        base_url=v.openai_base_url,
        dialect=v.model_dialect,
        # Other providers' libraries read their keys themselves.
        api_key=_revealed(v.openai_api_key) if v.llm_model.startswith("openai:") else None,
        timeout_seconds=v.orchestrator_model_timeout_seconds,
        temperature=v.orchestrator_model_temperature,
        max_output_tokens=v.orchestrator_model_max_output_tokens,
        concurrency=v.orchestrator_model_concurrency,
        rate_per_second=v.orchestrator_model_rate_per_second,
        price=None if price is None else Price(input=price.input, output=price.output),
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))


def _weights(text: str) -> dict[str, float]:
    pairs = (part.strip().rpartition("=") for part in text.split(",") if part)
    return {tenant: float(weight) for tenant, _, weight in pairs}


def _ceilings(v: Variables) -> Budget:
    cost = v.orchestrator_ceiling_cost
    return Budget(
        steps=v.orchestrator_ceiling_steps,
        attempts=v.orchestrator_ceiling_attempts,
        tokens=v.orchestrator_ceiling_tokens,
        cost_micros=None if cost is None else micros(cost),
        seconds=v.orchestrator_ceiling_age_seconds,
    )


def _engine(v: Variables) -> EngineOptions:
    kept = v.orchestrator_keep_finished_seconds
    max_cost = v.orchestrator_max_cost
    return EngineOptions(
        # In a container the process id is always the same, so a restart finds its name again;
        # on a laptop it keeps two workers apart.
        worker_name=v.orchestrator_worker_name or f"{socket.gethostname()}-{os.getpid()}",
        concurrency=v.orchestrator_concurrency,
        max_loaded_bytes=v.orchestrator_max_loaded_bytes,
        tenant_weights=_weights(v.orchestrator_tenant_weights or ""),
        lease=timedelta(seconds=v.orchestrator_lease_seconds),
        grace=timedelta(seconds=v.orchestrator_grace_seconds),
        async_result_timeout=timedelta(seconds=v.orchestrator_agent_result_timeout_seconds),
        dead_letters=v.orchestrator_topic_dead_letters,
        keep_finished=None if kept is None else timedelta(seconds=kept),
        limits=TaskLimits(
            max_steps=v.orchestrator_max_steps,
            max_attempts=v.orchestrator_max_attempts,
            max_tokens=v.orchestrator_max_tokens,
            max_cost_micros=None if max_cost is None else micros(max_cost),
            max_age=timedelta(seconds=v.orchestrator_max_age_seconds),
            ceilings=_ceilings(v),
        ),
        agent_retry=replace(ENGINE.agent_retry, max_attempts=v.orchestrator_agent_max_attempts),
        model_retry=replace(ENGINE.model_retry, max_attempts=v.orchestrator_model_max_attempts),
    )
