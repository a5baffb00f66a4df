"""Agents and models as calls go to them: operators' pauses, what is parked for them, their states.

A target is named `agent/{tenant}/{id}` or `model/{name}`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from orchestrator.domain.ids import WorkerId
from orchestrator.domain.json import JsonObject
from orchestrator.store.database import Database

PAUSES = "SELECT target, by, reason, at FROM pauses"

# Who paused it first, when and why, stays: a second pause is told of only where it has a reason.
PAUSE = """
INSERT INTO pauses AS p (target, by, reason) VALUES ($1, $2, $3)
ON CONFLICT (target) DO UPDATE SET by = excluded.by, reason = excluded.reason, at = now()
WHERE excluded.reason <> ''
RETURNING (xmax = 0) AS is_new
"""

RESUME = "DELETE FROM pauses WHERE target = $1 RETURNING target"

WAKE = """
WITH parked AS MATERIALIZED (
    SELECT id FROM tasks
    WHERE parked_for IS NOT NULL AND parked_for ?| $1::text[]
      AND status = 'waiting' AND run_at > now()
    ORDER BY id LIMIT $2 FOR UPDATE
)
UPDATE tasks t SET run_at = now() FROM parked p WHERE t.id = p.id
RETURNING t.id
"""

# Counted up to a limit, like all that is only told.
PARKED = """
SELECT count(*) AS tasks FROM (
    SELECT FROM tasks WHERE parked_for IS NOT NULL AND parked_for ? $1 AND status = 'waiting'
    LIMIT 10000
) counted
"""

# Rows of workers that are gone go with the next change of one that is there.
PUT_STATES = """
WITH gone AS (
    DELETE FROM agent_states s WHERE NOT EXISTS (SELECT FROM workers w WHERE w.id = s.worker)
)
INSERT INTO agent_states AS s (worker, target, state)
SELECT $1, e.target, e.state::jsonb FROM unnest($2::text[], $3::jsonb[]) AS e(target, state)
ON CONFLICT (worker, target) DO UPDATE SET state = excluded.state, updated_at = now()
"""

STATES = """
SELECT w.name, s.state, s.updated_at FROM agent_states s JOIN workers w ON w.id = s.worker
WHERE s.target = $1 ORDER BY w.name
"""

# A worker has its model's state from its start on, whether it has asked it anything or not.
MODELS = """
SELECT DISTINCT s.target FROM agent_states s JOIN workers w ON w.id = s.worker
WHERE starts_with(s.target, 'model/') ORDER BY s.target
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseRow:
    target: str
    by: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StateRow:
    """What one worker thinks of a target."""

    worker: str
    state: JsonObject
    updated_at: datetime


async def pauses(database: Database) -> list[PauseRow]:
    """All that operators paused."""
    return [PauseRow(**dict(row)) for row in await database.fetch(PAUSES)]


async def pause(database: Database, target: str, *, by: str, reason: str) -> bool:
    """Puts a target on hold; false where it was: only a new reason is written down then."""
    row = await database.fetch_one(PAUSE, target, by, reason)
    return row is not None and bool(row["is_new"])


async def resume(database: Database, target: str) -> bool:
    """Lets calls go to it again; false where it was not paused."""
    return bool(await database.fetch(RESUME, target))


async def wake_parked(database: Database, targets: Sequence[str], *, limit: int) -> int:
    """Makes tasks runnable that are parked for one of these; answers how many, `limit` at most."""
    return len(await database.fetch(WAKE, list(targets), limit))


async def parked(database: Database, target: str) -> int:
    """Tasks that are parked for it, counted up to 10000."""
    row = await database.fetch_one(PARKED, target)
    return row["tasks"] if row else 0


async def put_states(
    database: Database, worker: WorkerId, states: Mapping[str, JsonObject]
) -> None:
    """Writes down what the worker thinks of these."""
    await database.fetch(PUT_STATES, worker, list(states), list(states.values()))


async def states(database: Database, target: str) -> list[StateRow]:
    """What each living worker thinks of a target, by name."""
    return [
        StateRow(worker=row["name"], state=row["state"], updated_at=row["updated_at"])
        for row in await database.fetch(STATES, target)
    ]


async def models(database: Database) -> list[str]:
    """The targets of the models that workers use; none where no worker runs."""
    return [row["target"] for row in await database.fetch(MODELS)]
