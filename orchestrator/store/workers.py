"""T4: who is alive. One row a worker, however many tasks it holds."""

from datetime import datetime, timedelta

from orchestrator.domain.ids import WorkerId
from orchestrator.store.claims import ORPHANED
from orchestrator.store.database import Database

# The tasks that an earlier life under the same name held are orphans at once: nobody has to wait
# for the lease to end.
REGISTER = """
WITH gone AS (
    DELETE FROM workers WHERE name = $1 RETURNING id
), orphan AS MATERIALIZED (
    SELECT t.id FROM tasks t JOIN gone g ON t.owner = g.id WHERE t.status = 'running'
    ORDER BY t.id FOR UPDATE OF t
), released AS (
    $orphaned
    FROM orphan o WHERE t.id = o.id
)
SELECT FROM gone
""".replace("$orphaned", ORPHANED)

# NULL for `intake` is a worker of a release that does not say what it reads.
INSERT = "INSERT INTO workers (name, intake) VALUES ($1, '{}') RETURNING id"

HEARTBEAT = """
UPDATE workers SET heartbeat_at = now(), tasks = $2, room = $3 WHERE id = $1
RETURNING clock_timestamp() AS at
"""

NAMESAKE = "SELECT id FROM workers WHERE name = $1 AND id <> $2"

LEAVE = "DELETE FROM workers WHERE id = $1"

FORGET = """
DELETE FROM workers WHERE heartbeat_at < now() - $1::interval AND now() < $2 RETURNING name
"""

COUNT_LIVING = "SELECT count(*) AS n FROM workers WHERE heartbeat_at > now() - $1::interval"

LEAD = """
INSERT INTO leases AS l (name, owner, epoch) VALUES ($1, $2, 1)
ON CONFLICT (name) DO UPDATE SET owner = excluded.owner,
    epoch = CASE WHEN l.owner = excluded.owner THEN l.epoch ELSE l.epoch + 1 END
WHERE l.owner IS NULL OR l.owner = excluded.owner OR NOT EXISTS (
    SELECT FROM workers w WHERE w.id = l.owner AND w.heartbeat_at > now() - $3::interval)
RETURNING owner
"""

RESIGN = "UPDATE leases SET owner = NULL WHERE name = $1 AND owner = $2"


async def register(database: Database, name: str) -> WorkerId:
    """A new life under this name; an earlier one is over, and its tasks are runnable."""
    await database.fetch(REGISTER, name)
    row = await database.fetch_one(INSERT, name)
    assert row is not None
    return WorkerId(row["id"])


async def heartbeat(
    database: Database, worker: WorkerId, *, tasks: int = 0, room: int = 0
) -> datetime | None:
    """Proves that the worker lives; PostgreSQL's time, or None when the others gave it up.

    How many tasks it runs, and how many more it would take, is for the invariants to compare.
    """
    row = await database.fetch_one(HEARTBEAT, worker, tasks, room)
    return row["at"] if row else None


async def has_namesake(database: Database, name: str, worker: WorkerId) -> bool:
    """Whether another process took this worker's name."""
    return bool(await database.fetch(NAMESAKE, name, worker))


async def leave(database: Database, worker: WorkerId) -> None:
    await database.fetch(LEAVE, worker)


async def forget_dead(database: Database, *, lease: timedelta, until: datetime) -> list[str]:
    """Removes workers whose lease is over; answers their names. Too late for it after `until`."""
    return [r["name"] for r in await database.fetch(FORGET, lease, until)]


async def count_living(database: Database, *, lease: timedelta) -> int:
    """Workers whose lease is not over."""
    row = await database.fetch_one(COUNT_LIVING, lease)
    assert row is not None
    return int(row["n"])


async def lead(database: Database, role: str, worker: WorkerId, *, lease: timedelta) -> bool:
    """Whether the worker leads this role now: it did already, or whoever did is gone."""
    return bool(await database.fetch(LEAD, role, worker, lease))


async def resign(database: Database, role: str, worker: WorkerId) -> None:
    await database.fetch(RESIGN, role, worker)
