"""An agent's declaration as YAML or JSON, and the catalogue's `Agent`: one reads as the other.

What is accepted here works: a field that this release does not honour is refused, never ignored.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from orchestrator.agents.declaration_errors import problem_text
from orchestrator.agents.documents import UnreadableDocument, read_document
from orchestrator.agents.endpoints import checked_url
from orchestrator.agents.schemas import schema_errors
from orchestrator.agents.signature import PREFIX as SECRET_PREFIX
from orchestrator.agents.variables import DeclarationVariables
from orchestrator.domain.agent import Agent, AgentType, Effects, Limits
from orchestrator.domain.budget import MAX_CALL_COST
from orchestrator.domain.compensation import SOURCES, Compensation, references
from orchestrator.domain.errors import InvalidAgent
from orchestrator.domain.ids import AgentId
from orchestrator.domain.json import JsonObject

SUFFIXES = (".yaml", ".yml", ".json")
ID = r"^[a-z0-9][a-z0-9-]{0,47}$"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Limits(_Strict):
    concurrency: int = Field(Limits().concurrency, gt=0)
    rate_per_second: float | None = Field(None, ge=1e-6, allow_inf_nan=False)
    timeout_seconds: float = Field(Limits().timeout_seconds, gt=0, le=1e7, allow_inf_nan=False)


class _Compensation(_Strict):
    agent: str = Field(pattern=ID)
    input: JsonObject = {}


class _Declaration(_Strict):
    """The fields in the order in which `dump` writes them."""

    id: str = Field(pattern=ID)
    name: str = Field(min_length=1)
    description: str = Field(min_length=1)
    role: str = ""
    protocol: Literal["http"] = "http"
    endpoint: str
    capabilities: tuple[str, ...] = Field((), strict=False)
    type: AgentType = "processor"
    input_schema: JsonObject = {"type": "object"}
    output_schema: JsonObject = {"type": "object"}
    limits: _Limits = _Limits()
    effects: Effects = "idempotent"
    status_url: str | None = None
    cancel_url: str | None = None
    compensation: _Compensation | None = None
    cost: float = Field(0.0, ge=0, le=MAX_CALL_COST, allow_inf_nan=False)
    secret_env: str | None = Field(None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    config: JsonObject = {}
    tenant: str = Field("default", min_length=1)


def load_folder(path: Path, variables: DeclarationVariables) -> list[Agent]:
    """Every agent declared in the folder's `.yaml`, `.yml` and `.json` files, by file name.

    Raises `InvalidAgent` that tells of every wrong file at once.
    """
    if not path.is_dir():
        raise InvalidAgent(f"{path}: expected a folder with agent declarations; it does not exist")
    found: dict[tuple[str, AgentId], tuple[Agent, str]] = {}
    problems: list[str] = []
    for file in sorted(f for f in path.iterdir() if f.suffix in SUFFIXES):
        try:
            agent = load_file(file, variables)
        except InvalidAgent as error:
            problems.append(str(error))
            continue
        _, first = found.setdefault((agent.tenant, agent.id), (agent, file.name))
        if first != file.name:
            problems.append(
                f"{file.name}: id: {agent.id!r} is declared in {first} too; "
                "give one of the two another id"
            )
    if problems:
        raise InvalidAgent("\n".join(problems))
    return [agent for agent, _ in found.values()]


def load_file(path: Path, variables: DeclarationVariables) -> Agent:
    """The agent that one file declares; `variables` fill `${NAME}` in its URLs."""
    try:
        document = read_document(path.read_text(encoding="utf-8"), is_json=path.suffix == ".json")
    except OSError as error:
        raise InvalidAgent(f"{path}: can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidAgent(f"{path.name}: is not UTF-8 text; save it as UTF-8") from error
    except UnreadableDocument as error:
        raise InvalidAgent(f"{path.name}: {error}") from error
    return parse(document, source=path.name, variables=variables)


def parse(document: object, *, source: str, variables: DeclarationVariables | None = None) -> Agent:
    """The agent in a parsed document; `source` stands before each problem in `InvalidAgent`.

    Without `variables` the document is a stored one: its URLs are literal, and `${NAME}` is
    refused. Whoever wrote it may have no access to the variables of this process.
    """
    if not isinstance(document, dict):
        raise InvalidAgent(
            f"{source}: expected the fields of one agent (id, name, description, endpoint, …), "
            f"got {type(document).__name__}"
        )
    try:
        declared = _Declaration.model_validate(document)
    except ValidationError as error:
        details: list[ErrorDetails] = error.errors(include_url=False)
        raise _invalid(source, [problem_text(e, known=_KNOWN_FIELDS) for e in details]) from error
    problems = [*_contradictions(declared), *_schema_problems(declared)]
    problems += _compensation_problems(declared)
    endpoint = _url(declared.endpoint, variables, field="endpoint", problems=problems)
    status_url = _url(declared.status_url, variables, field="status_url", problems=problems)
    cancel_url = _url(declared.cancel_url, variables, field="cancel_url", problems=problems)
    if problems or endpoint is None:
        raise _invalid(source, problems)
    return _agent(declared, endpoint=endpoint, status_url=status_url, cancel_url=cancel_url)


def _url(
    text: str | None, variables: DeclarationVariables | None, *, field: str, problems: list[str]
) -> str | None:
    if text is None:
        return None
    try:
        filled = text if variables is None else variables.filled(text)
        return checked_url(filled, query_allowed=field != "endpoint")
    except ValueError as error:
        problems.append(f"{field}: {error}")
        return None


_KNOWN_FIELDS: dict[str, Sequence[str]] = {
    "": tuple(_Declaration.model_fields),
    "limits": tuple(_Limits.model_fields),
    "compensation": tuple(_Compensation.model_fields),
}


LATER = frozenset({"cancel_url", "cost"})
"""Not in release 0.1.0, which refuses fields that it does not know: written only where they
say something."""


def dump(agent: Agent) -> JsonObject:
    """Every field of the agent as a JSON object; `parse` reads it back to an equal agent."""
    fields = {**asdict(agent), "capabilities": list(agent.capabilities)}
    known = _Declaration.model_fields
    return {name: fields[name] for name in known if fields[name] or name not in LATER}


def dump_yaml(agent: Agent) -> str:
    """The declaration as a file that a person can edit and add again."""
    return yaml.safe_dump(dump(agent), sort_keys=False, allow_unicode=True)


def _invalid(source: str, problems: Iterable[str]) -> InvalidAgent:
    return InvalidAgent("\n".join(f"{source}: {problem}" for problem in problems))


def _contradictions(declared: _Declaration) -> list[str]:
    problems = []
    if declared.effects == "at_most_once" and declared.status_url is None:
        problems.append(
            "status_url: is missing; an agent with effects: at_most_once is never called twice, "
            "so recovery needs a URL that tells what became of a call"
        )
    if declared.secret_env is not None and declared.secret_env.startswith(SECRET_PREFIX):
        problems.append(
            "secret_env: expected the name of an environment variable, got what looks like the "
            "secret itself; put the secret into a variable and its name here"
        )
    return problems


def _compensation_problems(declared: _Declaration) -> Iterator[str]:
    """Of the values that its input quotes: a mistyped one would be noticed when it is too late."""
    if declared.compensation is None:
        return
    if declared.compensation.agent == declared.id:
        yield "compensation.agent: is the agent itself; expected one that undoes its calls"
    for reference in references(declared.compensation.input):
        source, _, path = reference.partition(".")
        if source not in SOURCES:
            yield (
                f"compensation.input: ${reference} quotes nothing; expected $input.… or $output.… "
                "(a text that begins with a dollar sign is written with two)"
            )
            continue
        schema = declared.input_schema if source == "input" else declared.output_schema
        known = schema.get("properties")
        if path and isinstance(known, dict) and path.partition(".")[0] not in known:
            yield (
                f"compensation.input: ${reference} is not in {source}_schema; there are "
                f"{', '.join(known) or 'none'}"
            )


def _schema_problems(declared: _Declaration) -> list[str]:
    problems = []
    for field, schema in (
        ("input_schema", declared.input_schema),
        ("output_schema", declared.output_schema),
    ):
        wrong = schema_errors(schema)
        problems += [f"{field}: is not a valid JSON Schema: {text}" for text in wrong]
        if not wrong and schema.get("type") != "object":
            problems.append(
                f"{field}.type: expected 'object', for agents take and give JSON objects; "
                f"got {schema.get('type')!r}"
            )
    return problems


def _compensation(declared: _Declaration) -> Compensation | None:
    said = declared.compensation
    return None if said is None else Compensation(agent=AgentId(said.agent), input=said.input)


def _agent(
    declared: _Declaration, *, endpoint: str, status_url: str | None, cancel_url: str | None
) -> Agent:
    return Agent(
        id=AgentId(declared.id),
        name=declared.name,
        description=declared.description,
        endpoint=endpoint,
        role=declared.role,
        protocol=declared.protocol,
        capabilities=declared.capabilities,
        type=declared.type,
        input_schema=declared.input_schema,
        output_schema=declared.output_schema,
        limits=Limits(**declared.limits.model_dump()),
        effects=declared.effects,
        status_url=status_url,
        cancel_url=cancel_url,
        compensation=_compensation(declared),
        cost=declared.cost,
        secret_env=declared.secret_env,
        config=declared.config,
        tenant=declared.tenant,
    )
