"""The agents, as `orchestrator doctor` looks at them: those a worker has once it has started."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.agents.declaration import load_folder
from orchestrator.agents.health import AgentHealth, health
from orchestrator.agents.http import agent_http_client
from orchestrator.agents.registry import usable
from orchestrator.agents.signature import secret_key
from orchestrator.cli.finding import Finding
from orchestrator.domain.agent import Agent
from orchestrator.domain.errors import InvalidAgent
from orchestrator.settings import Settings
from orchestrator.store import agents as stored
from orchestrator.store.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """The agents that there are, or will be as soon as a worker starts."""

    agents: Sequence[Agent]
    problems: Sequence[str] = ()
    """What is wrong with files of the folder: a worker adds none of it then, and ends."""
    unusable: Sequence[str] = ()
    """What is wrong with stored declarations: workers leave these out."""


async def declared(database: Database, settings: Settings) -> Declared:
    """Those of the catalogue, and those of ORCHESTRATOR_AGENTS_DIR, which a start adds."""
    found, unusable = usable(await stored.declarations(database))
    folder = settings.agents_dir
    if folder is None or not folder.is_dir():  # that there is none, the settings say
        return Declared(agents=found, unusable=unusable)
    try:
        added = load_folder(folder, settings.declarations)
    except InvalidAgent as error:
        return Declared(agents=found, unusable=unusable, problems=str(error).splitlines())
    by_id = {(agent.tenant, agent.id): agent for agent in (*found, *added)}
    return Declared(agents=[by_id[key] for key in sorted(by_id)], unusable=unusable)


async def agent_findings(found: Declared, *, environ: Mapping[str, str]) -> AsyncIterator[Finding]:
    """A line for each wrong file, and for each agent whether it is ready and can be called."""
    for problem in found.problems:
        advice = "mend it: a worker that starts with this ORCHESTRATOR_AGENTS_DIR ends"
        yield Finding(name="agents", state="failed", says=problem, advice=advice)
    for problem in found.unusable:
        advice = "workers do not use it; correct the declaration and add it again"
        yield Finding(name="agents", state="failed", says=problem, advice=advice)
    if not found.agents and not found.problems:
        advice = "`orchestrator agents add FILE`, or ORCHESTRATOR_AGENTS_DIR"
        yield Finding(name="agents", state="warning", says="there are none", advice=advice)
    async with agent_http_client() as client:
        answers = await asyncio.gather(*(health(client, agent) for agent in found.agents))
    for agent, answer in zip(found.agents, answers, strict=True):
        yield _finding(agent, answer, secret_problem=_secret_problem(agent, environ))


def _secret_problem(agent: Agent, environ: Mapping[str, str]) -> str | None:
    """Why no call of this agent could be signed, with the environment of this process."""
    if agent.secret_env is None:
        return None
    try:
        secret_key(agent.secret_env, environ.get(agent.secret_env, ""))
    except InvalidAgent as error:
        return str(error)
    return None


def _finding(agent: Agent, answer: AgentHealth, *, secret_problem: str | None) -> Finding:
    if secret_problem is not None:
        says = f"calls of agent {agent.id!r} can't be signed: {secret_problem}"
        advice = f"set {agent.secret_env} for each worker; its calls fail until then"
        return Finding(name="agent", state="failed", says=says, advice=advice)
    if answer.ready:
        says = f"{agent.id} is ready at {agent.endpoint} ({answer.duration_ms} ms)"
        return Finding(name="agent", state="ok", says=says)
    says = answer.error or f"agent {agent.id!r} says that it is not ready"
    advice = f"look at {agent.endpoint}/health; its calls wait until it answers"
    return Finding(name="agent", state="failed", says=says, advice=advice)
