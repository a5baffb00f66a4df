"""`orchestrator agents`: the catalogue in PostgreSQL; running workers see a change at once."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from orchestrator.agents.declaration import dump, dump_yaml, load_file, load_folder
from orchestrator.agents.health import AgentHealth, health
from orchestrator.agents.http import agent_http_client
from orchestrator.agents.registry import usable
from orchestrator.agents.targets import agent_target
from orchestrator.agents.variables import DeclarationVariables
from orchestrator.cli.output import AsJson, console, note, print_json, shortened, table
from orchestrator.cli.session import settings_for, with_database
from orchestrator.cli.target_view import (
    By,
    Reason,
    TargetDetails,
    details,
    details_document,
    details_lines,
    tell_outcome,
)
from orchestrator.cli.target_view import pause as pause_target
from orchestrator.cli.target_view import resume as resume_target
from orchestrator.domain.agent import Agent
from orchestrator.domain.errors import NotFound
from orchestrator.store import agents as stored
from orchestrator.store import targets
from orchestrator.store.database import Database
from orchestrator.store.notices import Notice, notify
from orchestrator.store.targets import PauseRow
from orchestrator.telemetry.log_lines import printable

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None)

Id = Annotated[str, typer.Argument(metavar="ID", help="The agent's id.")]
Tenant = Annotated[str, typer.Option(help="Whose agent.")]

NO_AGENTS = "no agents; add one: `orchestrator agents add FILE`"


@app.callback()
def _agents() -> None:
    """Add, list, show, pause, resume, remove and check agents."""


@app.command()
def add(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="YAML or JSON files, or folders.")
    ],
    *,
    as_json: AsJson = False,
) -> None:
    """Add agents, or change those that are there; nothing is changed if one file is wrong."""
    variables = settings_for("database").declarations
    declared = [agent for path in files for agent in _declared(path, variables)]

    async def put(database: Database) -> tuple[dict[str, str], list[Agent]]:
        outcomes: dict[str, str] = {
            agent.id: await stored.put(database, dump(agent), tenant=agent.tenant, agent=agent.id)
            for agent in declared
        }
        await notify(database, Notice.AGENTS)
        return outcomes, await _all(database)

    outcomes, known = with_database(put)
    for lonely in _not_undoable(declared, known):
        assert lonely.compensation is not None
        undo = lonely.compensation.agent
        note(f"agent {lonely.id}: its compensation names {undo!r}, which is not there yet: add it")
    if as_json:
        print_json([{"id": agent, "outcome": outcome} for agent, outcome in outcomes.items()])
        return
    for agent, outcome in outcomes.items():
        typer.echo(f"agent {agent}: {outcome}")


def _not_undoable(declared: Sequence[Agent], known: Sequence[Agent]) -> list[Agent]:
    """Those whose effects nobody could undo: files may be added in any order, so it is no error."""
    there = {(agent.tenant, agent.id) for agent in known}
    return [
        agent
        for agent in declared
        if agent.compensation and (agent.tenant, agent.compensation.agent) not in there
    ]


def _declared(path: Path, variables: DeclarationVariables) -> list[Agent]:
    return load_folder(path, variables) if path.is_dir() else [load_file(path, variables)]


async def _all(database: Database) -> list[Agent]:
    agents, problems = usable(await stored.declarations(database))
    for problem in problems:
        note(f"workers do not use it: {problem}")
    return agents


async def _one(database: Database, agent_id: str, tenant: str) -> Agent:
    for agent in await _all(database):
        if (agent.tenant, agent.id) == (tenant, agent_id):
            return agent
    raise _no_such(agent_id, tenant)


def _no_such(agent_id: str, tenant: str) -> NotFound:
    whose = "" if tenant == "default" else f" of tenant {tenant!r}"
    return NotFound(
        f"there is no agent {agent_id!r}{whose}; `orchestrator agents list` shows those there are"
    )


@app.command("list")
def list_(*, as_json: AsJson = False) -> None:
    """Every agent that the model can choose from."""

    async def work(database: Database) -> tuple[list[Agent], dict[str, PauseRow]]:
        return await _all(database), {p.target: p for p in await targets.pauses(database)}

    agents, pauses = with_database(work)
    if as_json:
        print_json([{**dump(agent), "pause": pauses.get(_target(agent))} for agent in agents])
        return
    if not agents:
        note(NO_AGENTS)
        return
    rows = (
        (
            agent.id,
            agent.tenant,
            _paused_by(pauses.get(_target(agent))),
            agent.protocol,
            agent.endpoint,
            shortened(", ".join(agent.output_fields), 40),
            shortened(agent.description, 60),
        )
        for agent in agents
    )
    console().print(
        table(("AGENT", "TENANT", "PAUSED", "PROTOCOL", "ENDPOINT", "FIELDS", "DESCRIPTION"), rows)
    )


def _paused_by(pause: PauseRow | None) -> str:
    if pause is None:
        return ""
    reason = f": {pause.reason}" if pause.reason else ""
    return shortened(f"by {pause.by}{reason}", 40)


@app.command()
def show(agent_id: Id, *, tenant: Tenant = "default", as_json: AsJson = False) -> None:
    """One agent's declaration, as a file that can be edited and added again, and its state."""

    async def work(database: Database) -> tuple[Agent, TargetDetails]:
        agent = await _one(database, agent_id, tenant)
        return agent, await details(database, _target(agent))

    agent, found = with_database(work)
    if as_json:
        print_json({**dump(agent), "state": details_document(found)})
        return
    typer.echo(dump_yaml(agent), nl=False)
    for line in details_lines(found):
        typer.echo(f"# {printable(line)}")


def _target(agent: Agent) -> str:
    return agent_target(agent.tenant, agent.id)


@app.command()
def pause(
    agent_id: Id,
    *,
    tenant: Tenant = "default",
    reason: Reason = "",
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Call an agent no more: calls are parked; those that are under way come to their end."""

    async def work(database: Database) -> str:
        target = _target(await _one(database, agent_id, tenant))
        return await pause_target(database, target, by=by, reason=reason)

    tell_outcome("agent", agent_id, with_database(work), as_json=as_json)


@app.command()
def resume(agent_id: Id, *, tenant: Tenant = "default", as_json: AsJson = False) -> None:
    """Call it again; what is parked for it goes on at once."""

    async def work(database: Database) -> str:
        return await resume_target(database, _target(await _one(database, agent_id, tenant)))

    tell_outcome("agent", agent_id, with_database(work), as_json=as_json)


@app.command()
def remove(agent_id: Id, *, tenant: Tenant = "default", as_json: AsJson = False) -> None:
    """Take an agent out of the catalogue; calls that are under way end as usual."""

    async def work(database: Database) -> None:
        if not await stored.remove(database, tenant=tenant, agent=agent_id):
            raise _no_such(agent_id, tenant)
        await notify(database, Notice.AGENTS)

    with_database(work)
    if as_json:
        print_json({"id": agent_id, "outcome": "removed"})
    else:
        typer.echo(f"agent {agent_id}: removed")


@app.command()
def check(
    agent_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="The agent's id; all where none is given.")
    ] = None,
    *,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Ask agents whether they are ready; exit 1 if one is not."""

    async def work(database: Database) -> list[tuple[Agent, AgentHealth]]:
        if agent_id is None:
            agents = await _all(database)
        else:
            agents = [await _one(database, agent_id, tenant)]
        return await _health_of(agents)

    found = with_database(work)
    if as_json:
        print_json([{"id": agent.id, "tenant": agent.tenant, "health": h} for agent, h in found])
    elif found:
        rows = ((a.id, _verdict(h), f"{h.duration_ms} ms", _remark(h)) for a, h in found)
        console().print(table(("AGENT", "READY", "TOOK", "SAYS"), rows))
    else:
        note(NO_AGENTS)
    if not all(h.ready for _, h in found):
        raise typer.Exit(1)


async def _health_of(agents: list[Agent]) -> list[tuple[Agent, AgentHealth]]:
    async with agent_http_client() as client:
        answers = await asyncio.gather(*(health(client, agent) for agent in agents))
    return list(zip(agents, answers, strict=True))


def _verdict(found: AgentHealth) -> Text:
    return Text("yes", style="green") if found.ready else Text("no", style="red")


def _remark(found: AgentHealth) -> str:
    if found.error:
        return found.error
    version = f"version {found.version}" if found.version else ""
    return "; ".join(part for part in (version, ", ".join(found.capabilities)) if part)
