"""The catalogue of agents: declarations as JSON, which `agents.declaration` reads and writes."""

from orchestrator.domain.json import JsonObject
from orchestrator.store.database import Database

LIST = "SELECT declaration FROM agents WHERE enabled ORDER BY tenant, id"

PUT = """
INSERT INTO agents AS a (tenant, id, declaration) VALUES ($1, $2, $3)
ON CONFLICT (tenant, id) DO UPDATE SET declaration = excluded.declaration, updated_at = now(),
    enabled = true
WHERE a.declaration IS DISTINCT FROM excluded.declaration OR NOT a.enabled
RETURNING (xmax = 0) AS is_new
"""

REMOVE = "DELETE FROM agents WHERE tenant = $1 AND id = $2 RETURNING id"


async def declarations(database: Database) -> list[JsonObject]:
    """Every tenant's agents, by id."""
    return [r["declaration"] for r in await database.fetch(LIST)]


async def put(database: Database, declaration: JsonObject, *, tenant: str, agent: str) -> str:
    """Adds or changes an agent; answers `added`, `changed` or `unchanged`."""
    row = await database.fetch_one(PUT, tenant, agent, declaration)
    if row is None:
        return "unchanged"
    return "added" if row["is_new"] else "changed"


async def remove(database: Database, *, tenant: str, agent: str) -> bool:
    """Removes an agent; false when there is none of that id."""
    return bool(await database.fetch(REMOVE, tenant, agent))
