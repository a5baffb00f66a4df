"""The agents that PostgreSQL has: read for the catalogue, added from a folder at start."""

from collections.abc import Sequence
from pathlib import Path

from orchestrator.agents.declaration import dump, load_folder, parse
from orchestrator.agents.variables import DeclarationVariables
from orchestrator.domain.agent import Agent
from orchestrator.domain.errors import InvalidAgent
from orchestrator.domain.json import JsonObject
from orchestrator.store import agents as stored
from orchestrator.store.database import Database
from orchestrator.store.notices import Notice, notify
from orchestrator.telemetry.logs import get_logger

log = get_logger(__name__)


async def load_agents(database: Database) -> Sequence[Agent]:
    """All tenants' agents; an entry that this release can't read is left out, and told."""
    found, problems = usable(await stored.declarations(database))
    for problem in problems:
        log.error("agent can't be used", error=problem)
    return found


def usable(documents: Sequence[JsonObject]) -> tuple[list[Agent], list[str]]:
    """The agents in stored declarations, and why others are none."""
    found, problems = [], []
    for document in documents:
        try:
            found.append(parse(document, source=f"agent {document.get('id')!r} as it is stored"))
        except InvalidAgent as error:
            problems.append(str(error))
    return found, problems


async def add_folder(database: Database, folder: Path, variables: DeclarationVariables) -> None:
    """Adds or changes the agents of a folder; those that only PostgreSQL has stay.

    Raises:
        InvalidAgent: a file is wrong; none was added.
    """
    changed = False
    for agent in load_folder(folder, variables):
        outcome = await stored.put(database, dump(agent), tenant=agent.tenant, agent=agent.id)
        if outcome != "unchanged":
            changed = True
            log.info("agent registered", agent=agent.id, endpoint=agent.endpoint, was=outcome)
    if changed:
        await notify(database, Notice.AGENTS)
