"""A hundred agents registered at once by several workers: all are there, each once."""

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from chaos.proxy import by_way_of, running_proxy
from orchestrator.agents.registry import add_folder, load_agents
from orchestrator.agents.variables import DeclarationVariables
from orchestrator.app import patiently
from orchestrator.store.database import Database, DatabaseOptions

AGENTS, WORKERS = 100, 5


def folder_of_agents(folder: Path) -> Path:
    for number in range(AGENTS):
        declaration = {
            "id": f"agent-{number}",
            "name": f"Agent {number}",
            "description": "One of many.",
            "endpoint": f"http://127.0.0.1:1/{number}",
        }
        (folder / f"{number}.yaml").write_text(yaml.safe_dump(declaration))
    return folder


async def names(database: Database) -> set[str]:
    return {agent.id for agent in await load_agents(database)}


async def test_a_hundred_agents_registered_at_once_are_all_there(
    database: Database, tmp_path: Path
) -> None:
    folder = folder_of_agents(tmp_path)
    await asyncio.gather(
        *(add_folder(database, folder, DeclarationVariables()) for _ in range(WORKERS))
    )
    assert await names(database) == {f"agent-{number}" for number in range(AGENTS)}


async def test_agents_registered_while_the_database_goes_away_are_all_there(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    folder, parts = folder_of_agents(tmp_path), urlsplit(database_url)
    assert parts.hostname is not None
    async with running_proxy(parts.hostname, parts.port or 5432) as proxy:
        far = Database(DatabaseOptions(url=by_way_of(proxy, database_url)))
        await far.open()
        proxy.budget = lambda: 2000
        proxy.cut()
        asyncio.get_running_loop().call_later(0.5, proxy.heal)
        await patiently("PostgreSQL", lambda: add_folder(far, folder, DeclarationVariables()))
        await far.close()
    assert await names(database) == {f"agent-{number}" for number in range(AGENTS)}
