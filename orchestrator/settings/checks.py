"""What is missing, wrong, unknown or contradictory: a line each, never the value of a secret."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from orchestrator.bus.options import OWN_PREFIX
from orchestrator.settings.variables import (
    EXPLAINED,
    FILE_SUFFIX,
    KNOWN,
    SECRETS,
    VARIABLES,
    Variables,
    expected,
)
from orchestrator.store.database_url import checked_url

Need = Literal["database", "kafka", "model"]
NEEDS: tuple[Need, ...] = ("database", "kafka", "model")

ADDRESSED_BY: Mapping[Need, tuple[str, ...]] = {
    "database": ("DATABASE_URL",),
    "kafka": ("KAFKA_", "ORCHESTRATOR_TOPIC_"),
    "model": ("LLM_MODEL", "OPENAI_", "ORCHESTRATOR_MODEL_DIALECT"),
}
"""How the names begin without which a part can't even be looked at; others have defaults."""

MAX_SHOWN = 60


def unknown(environ: Mapping[str, str]) -> Iterator[str]:
    for name in sorted(n for n in environ if n.startswith(OWN_PREFIX) and n not in KNOWN):
        close = difflib.get_close_matches(name, KNOWN, n=1, cutoff=0.7)
        hint = f"did you mean {close[0]}?" if close else ".env.example lists those there are"
        yield f"{name}: there is no such setting; {hint}"


def trimmed(value: str) -> str:
    """Without the line breaks at its ends: a mounted secret often has one, and none means it.

    Blanks stay: a password may begin or end with one.
    """
    return value.strip("\r\n")


def with_secret_files(environ: Mapping[str, str], problems: list[str]) -> dict[str, str]:
    """The values as they are meant, line breaks at their ends removed."""
    values = {name: trimmed(value) for name, value in environ.items()}
    for name in SECRETS:
        path = values.get(name + FILE_SUFFIX)
        if path is None:
            continue
        if name in environ:
            problems.append(f"{name}: is set, and so is {name}{FILE_SUFFIX}; keep one of the two")
            continue
        try:
            values[name] = trimmed(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            problems.append(f"{name}{FILE_SUFFIX}: {path!r} can't be read: {reason}")
    return values


def validated(values: Mapping[str, str], problems: list[str]) -> Variables:
    """The variables; a wrong one is told of in `problems` and has its default here."""
    given = {name: values[name] for name in VARIABLES if name in values}
    try:
        return Variables.model_validate(given)
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False)
        problems += [_problem(e) for e in details]
        wrong = {e["loc"][0] for e in details}
        return Variables.model_validate({n: v for n, v in given.items() if n not in wrong})


def _problem(error: ErrorDetails) -> str:
    name = str(error["loc"][0])
    if error["type"] == EXPLAINED:
        return f"{name}: expected {expected(name)}; {error['msg']}"
    # A value that is not what it should be may be a secret in the wrong place; a long one never
    # helps.
    value = repr(error["input"])
    is_shown = (
        name not in SECRETS
        and "@" not in value
        and "?" not in value
        and not value.startswith("'sk-")
        and len(value) <= MAX_SHOWN
    )
    return f"{name}: expected {expected(name)}" + (f"; got {value}" if is_shown else "")


def spoilt(problems: Iterable[str]) -> frozenset[Need]:
    """What nobody can look at, as one of these lines is about where it is, or how to log in."""
    names = [line.partition(":")[0] for line in problems]
    return frozenset(
        need for need, starts in ADDRESSED_BY.items() if any(n.startswith(starts) for n in names)
    )


def contradictions(
    variables: Variables, needs: frozenset[Need], environ: Mapping[str, str]
) -> Iterator[str]:
    if "database" in needs:
        yield from _database_problems(variables, environ)
    if "kafka" in needs:
        yield from _kafka_problems(variables, environ)
    has_endpoint = variables.openai_api_key or variables.openai_base_url
    if "model" in needs and variables.llm_model.startswith("openai:") and not has_endpoint:
        yield _missing(
            "OPENAI_API_KEY",
            environ,
            f"{expected('OPENAI_API_KEY')} (or set "
            "OPENAI_BASE_URL, for an endpoint that asks for none)",
        )
    if variables.model_dialect >= {"responses", "chat-completions"}:
        yield "ORCHESTRATOR_MODEL_DIALECT: has responses and chat-completions; keep one of the two"
    if "model" in needs and not variables.llm_model.startswith("openai:"):
        yield from _provider_key_problems(environ)
    folder = variables.orchestrator_agents_dir
    if "model" in needs and folder is not None and not Path(folder).is_dir():
        yield f"ORCHESTRATOR_AGENTS_DIR: there is no folder {folder!r}"
    yield from _ceiling_problems(variables)
    if "model" in needs and variables.orchestrator_max_cost is not None:
        yield from _price_problems(variables)


def _provider_key_problems(environ: Mapping[str, str]) -> Iterator[str]:
    """Other providers' packages read their keys themselves, and send them as they are."""
    for name, value in environ.items():
        if name.endswith("_API_KEY") and name not in KNOWN and not _can_be_sent(value):
            yield (
                f"{name}: holds a character that can't be sent in a header, such as a line break "
                "at its end; remove it"
            )


def _can_be_sent(value: str) -> bool:
    return all("!" <= character <= "~" for character in value)


def _ceiling_problems(variables: Variables) -> Iterator[str]:
    for what in ("steps", "attempts", "tokens", "cost", "age_seconds"):
        ceiling = getattr(variables, f"orchestrator_ceiling_{what}")
        limit = getattr(variables, f"orchestrator_max_{what}")
        name, of_limit = f"ORCHESTRATOR_CEILING_{what.upper()}", f"ORCHESTRATOR_MAX_{what.upper()}"
        if ceiling is not None and limit is None:
            yield f"{name}: is set, but {of_limit} is not; set that too, for tasks without a budget"
        elif ceiling is not None and ceiling < limit:
            yield (
                f"{name}: is {ceiling:g}, below {of_limit} ({limit:g}); expected at least as much"
            )


def _price_problems(variables: Variables) -> Iterator[str]:
    """A budget of money can't be kept by a model whose price nobody said: every task would fail."""
    prices = variables.orchestrator_model_prices
    if prices is None:
        yield (
            "ORCHESTRATOR_MODEL_PRICES: is missing; ORCHESTRATOR_MAX_COST is set, and needs what "
            f"{variables.llm_model} costs"
        )
    elif variables.llm_model not in prices:
        yield (
            f"ORCHESTRATOR_MODEL_PRICES: has no price of {variables.llm_model}; "
            "ORCHESTRATOR_MAX_COST is set, and needs it"
        )


def _missing(name: str, environ: Mapping[str, str], wanted: str) -> str:
    others = [n for n in environ if n not in KNOWN]
    close = difflib.get_close_matches(name, others, n=1, cutoff=0.85)
    hint = f"; {close[0]} is set: did you mean {name}?" if close else ""
    return f"{name}: is missing; expected {wanted}{hint}"


def _database_problems(variables: Variables, environ: Mapping[str, str]) -> Iterator[str]:
    if variables.database_url is None:
        yield _missing("DATABASE_URL", environ, expected("DATABASE_URL"))
        return
    try:
        checked_url(variables.database_url.get_secret_value())
    except ValueError as error:
        yield f"DATABASE_URL: expected {expected('DATABASE_URL')}; {error}"


def _kafka_problems(variables: Variables, environ: Mapping[str, str]) -> Iterator[str]:
    if variables.kafka_bootstrap_servers is None:
        yield _missing("KAFKA_BOOTSTRAP_SERVERS", environ, expected("KAFKA_BOOTSTRAP_SERVERS"))
    yield from _login_problems(variables)
    yield from _tls_problems(variables)
    topics = (
        variables.orchestrator_topic_tasks,
        variables.orchestrator_topic_events,
        variables.orchestrator_topic_updates,
        variables.orchestrator_topic_dead_letters,
    )
    if len(set(topics)) < len(topics):
        names = ", ".join(topics)
        yield f"ORCHESTRATOR_TOPIC_…: two of the topics {names} are the same; each needs its own"


def _login_problems(variables: Variables) -> Iterator[str]:
    protocol = variables.kafka_security_protocol
    given = {
        "KAFKA_SASL_USERNAME": variables.kafka_sasl_username,
        "KAFKA_SASL_PASSWORD": variables.kafka_sasl_password,
    }
    for name, value in given.items():
        if protocol.startswith("SASL_") and value is None:
            yield f"{name}: is missing; KAFKA_SECURITY_PROTOCOL {protocol} needs it"
        if not protocol.startswith("SASL_") and value is not None:
            yield (
                f"{name}: is set, but KAFKA_SECURITY_PROTOCOL is {protocol}, which logs nobody in; "
                "set that to SASL_SSL (or SASL_PLAINTEXT)"
            )


def _tls_problems(variables: Variables) -> Iterator[str]:
    if variables.kafka_ssl_keyfile and not variables.kafka_ssl_certfile:
        yield "KAFKA_SSL_CERTFILE: is missing; KAFKA_SSL_KEYFILE is set, and is of no use without"
    for name in ("kafka_ssl_cafile", "kafka_ssl_certfile", "kafka_ssl_keyfile"):
        path = getattr(variables, name)
        if path is not None and not Path(path).is_file():
            yield f"{name.upper()}: there is no file {path!r}"
