"""T2 and T5: who runs which task. Every change of owner is a new epoch."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType

from orchestrator.domain.ids import Epoch, TaskKey, WorkerId
from orchestrator.store.database import Database
from orchestrator.store.ingest import Claimed

# One look into the index for each tenant that has anything ready: so the cost grows with the
# tenants, never with their tasks.
_QUEUES = """
WITH RECURSIVE queue AS (
    (SELECT tenant FROM tasks WHERE status = 'ready' ORDER BY tenant LIMIT 1)
    UNION ALL
    SELECT (SELECT t.tenant FROM tasks t WHERE t.status = 'ready' AND t.tenant > q.tenant
            ORDER BY t.tenant LIMIT 1)
    FROM queue q WHERE q.tenant IS NOT NULL
)
"""

# A lottery: from a tenant's ticket to its next there is a random distance, the smaller the greater
# its weight; the smallest tickets win. So turns are fair over any number of claims and workers, and
# nobody has to remember whose it was.
CLAIM = f"""{_QUEUES}, turn AS MATERIALIZED (
    SELECT *, ceil(2 * $2::int * weight / sum(weight) OVER ())::bigint AS share
    FROM (SELECT tenant, coalesce(w.weight, 1) AS weight,
                 -ln(1 - random()) / coalesce(w.weight, 1) AS ticket
          FROM queue LEFT JOIN unnest($4::text[], $5::float8[]) AS w(tenant, weight)
              USING (tenant)
          WHERE tenant IS NOT NULL
          -- Of more tenants than tasks are wanted the last ones have no ticket that wins.
          ORDER BY ticket LIMIT $2::int) drawn
), candidate AS MATERIALIZED (
    SELECT turn.*, first.id, first.run_at - p.head_start AS place
    FROM turn CROSS JOIN (
        VALUES (-1, interval '1 hour'), (0, interval '10 min'), (1, interval '5 min'),
               (2, interval '0')
    ) AS p(priority, head_start) CROSS JOIN LATERAL (
        SELECT id, run_at FROM tasks t
        WHERE t.status = 'ready' AND t.tenant = turn.tenant AND t.priority = p.priority
          AND t.run_at <= now() AND t.claims < $3
        ORDER BY t.tenant, t.priority, t.run_at LIMIT least($2::int, turn.share)
        FOR UPDATE SKIP LOCKED
    ) first
), drawn AS (
    SELECT id FROM candidate
    ORDER BY ticket + coalesce(sum(-ln(1 - random()) / weight) OVER (
        PARTITION BY tenant ORDER BY place, id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)
    LIMIT $2::int
)
UPDATE tasks t SET status = 'running', epoch = epoch + 1, owner = $1, claims = claims + 1,
                   reason = NULL, updated_at = now()
WHERE t.id = ANY (ARRAY(SELECT id FROM drawn))
RETURNING t.id, t.epoch
"""  # noqa: S608 - of constants

# Who is to end has little to do, and was told to do it now. And who has nothing here waits for no
# task of those who filled all places, which may last for minutes; of many such tenants some by lot.
CLAIM_BESIDE = f"""{_QUEUES}, told AS MATERIALIZED (
    SELECT id FROM tasks
    WHERE status = 'ready' AND urgent_at IS NOT NULL AND run_at <= now() AND claims < $3
    ORDER BY urgent_at LIMIT $2::int FOR UPDATE SKIP LOCKED
), late AS MATERIALIZED (
    SELECT id FROM tasks
    WHERE status = 'ready' AND deadline IS NOT NULL AND deadline <= now() AND run_at <= now()
      AND claims < $3
    ORDER BY deadline LIMIT $2::int FOR UPDATE SKIP LOCKED
), drawn AS MATERIALIZED (
    SELECT tenant FROM queue
    WHERE tenant IS NOT NULL AND tenant <> ALL (ARRAY(
        SELECT tenant FROM tasks WHERE status = 'running' AND owner = $1))
    ORDER BY random() LIMIT $2::int
), newcomer AS MATERIALIZED (
    SELECT first.id FROM drawn CROSS JOIN LATERAL (
        SELECT id FROM tasks t
        WHERE t.status = 'ready' AND t.tenant = drawn.tenant AND t.run_at <= now() AND t.claims < $3
        ORDER BY t.tenant, t.priority, t.run_at LIMIT 1 FOR UPDATE SKIP LOCKED
    ) first
), chosen AS (
    SELECT id FROM (SELECT id, 1 AS turn FROM told UNION ALL SELECT id, 2 FROM late
                    UNION ALL SELECT id, 3 FROM newcomer) pressing
    GROUP BY id ORDER BY min(turn) LIMIT $2::int
)
UPDATE tasks t SET status = 'running', epoch = epoch + 1, owner = $1, claims = claims + 1,
                   reason = NULL, updated_at = now()
WHERE t.id = ANY (ARRAY(SELECT id FROM chosen))
RETURNING t.id, t.epoch
"""  # noqa: S608 - of constants

# A task that kills its worker takes those beside it along. So before it is set aside, it is tried
# among ever fewer of its kind, each time half as many, and in the end alone: the innocent make a
# step there. No suspect joins where the most suspicious one would have more beside it than it may.
CLAIM_SUSPECT = """
WITH beside AS (
    SELECT count(*) AS tasks, coalesce(min($3 - claims), 30) AS trials FROM tasks
    WHERE status = 'running' AND owner = $1 AND claims > $2
), suspect AS (
    SELECT id FROM tasks t, beside b
    WHERE t.status IN ('ready', 'waiting') AND t.claims > 0 AND t.claims >= $2 AND t.claims < $3
      AND t.status = 'ready' AND t.run_at <= now()
      AND b.tasks < 2 ^ least($3 - 1 - t.claims, b.trials)
    ORDER BY t.run_at, t.id LIMIT 1 FOR UPDATE OF t SKIP LOCKED
)
UPDATE tasks t SET status = 'running', epoch = epoch + 1, owner = $1, claims = claims + 1,
                   reason = NULL, updated_at = now()
FROM suspect s WHERE t.id = s.id
RETURNING t.id, t.epoch
"""

# What waits for a time joins the queues when that has come, so that a claim has to look at queues
# alone: there may be a million tasks of a thousand tenants that wait for something else.
WAKE_DUE = """
WITH due AS MATERIALIZED (
    SELECT id FROM tasks WHERE status = 'waiting' AND run_at < 'infinity' AND run_at <= now()
    ORDER BY run_at LIMIT 5000 FOR UPDATE SKIP LOCKED
), woken AS (
    UPDATE tasks t SET status = 'ready' WHERE t.id = ANY (ARRAY(SELECT id FROM due))
)
SELECT (SELECT run_at FROM tasks
        WHERE status = 'waiting' AND run_at < 'infinity' AND run_at > now()
        ORDER BY run_at LIMIT 1) - now() AS next
"""

# It keeps its place: whoever waited longer than others does not begin to wait anew. But a task of
# which two workers died without a step waits for 1, 3 and 9 s: where one worker after the other
# dies of something else, its trials must not all fall into those seconds. And for 27 s before it is
# set aside: a worker that only stood still may come back and say so.
ORPHANED = """
UPDATE tasks t SET epoch = epoch + 1, owner = NULL, updated_at = now(),
    status = CASE WHEN claims < 2 THEN 'ready' ELSE 'waiting' END,
    reason = CASE WHEN claims >= 2 THEN 'a pause, after workers that died with it' END,
    run_at = CASE WHEN claims < 2 THEN least(run_at, now())
                  ELSE now() + interval '1 s' * 3 ^ least(claims - 2, 4) END
"""

REAP = """
WITH stranded AS MATERIALIZED (
    SELECT t.id FROM tasks t
    -- The dead by their numbers, once: a condition that joins the living would not be asked again
    -- of a row that had to be waited for, which a living worker may have by then.
    WHERE t.status = 'running' AND t.owner = ANY (ARRAY(
        SELECT DISTINCT o.owner FROM tasks o WHERE o.status = 'running' AND NOT EXISTS (
            SELECT FROM workers w WHERE w.id = o.owner AND w.heartbeat_at > now() - $1::interval)))
      -- After a server stood still, all heartbeats are old, and so is what was sent to it.
      AND now() < $2
    ORDER BY t.id LIMIT 10000 FOR UPDATE
)
$orphaned
FROM stranded s WHERE t.id = s.id AND t.status = 'running'
RETURNING t.id
""".replace("$orphaned", ORPHANED)

RELEASE = """
WITH mine AS MATERIALIZED (
    SELECT t.id FROM tasks t
    JOIN unnest($2::bigint[], $3::bigint[]) AS r(id, epoch) ON r.id = t.id AND r.epoch = t.epoch
    WHERE t.status = 'running' AND t.owner = $1 ORDER BY t.id FOR UPDATE OF t
)
UPDATE tasks t SET epoch = epoch + 1, owner = NULL,
    -- What is ready is due: a delay is waited for like any other time.
    status = CASE WHEN $4 > interval '0' THEN 'waiting' ELSE 'ready' END,
    reason = CASE WHEN $4 > interval '0' THEN 'another try, after trouble inside a worker' END,
    run_at = CASE WHEN $4 IS NULL THEN least(run_at, now()) ELSE now() + $4::interval END,
    updated_at = now(),
    claims = CASE WHEN $4 IS NULL THEN greatest(claims - 1, 0) ELSE claims END
FROM mine m WHERE t.id = m.id
RETURNING t.id
"""

# A claim counts as a death until its worker says that it lives. A later owner may have made a step
# since, so this claim need not be among those that count any more; then the task has one try more.
# So it has where the answer is lost and the claim is told again.
# Nobody waits for a locked row: a worker that comes back has no lease before this is done.
OUTLIVED = """
WITH survived AS MATERIALIZED (
    SELECT t.id FROM tasks t
    JOIN unnest($1::bigint[], $2::bigint[]) AS r(id, epoch) ON r.id = t.id AND r.epoch < t.epoch
    WHERE t.status IN ('ready', 'waiting', 'running') AND t.claims > 0
    ORDER BY t.id FOR UPDATE OF t SKIP LOCKED
)
UPDATE tasks t SET claims = claims - 1 FROM survived s WHERE t.id = s.id RETURNING t.id
"""

OWNED = "SELECT id, epoch FROM tasks WHERE status = 'running' AND owner = $1"


async def wake_due(database: Database) -> timedelta | None:
    """Makes waiting tasks ready whose time has come; answers how long until the next one's.

    None: nothing waits for a time.
    """
    row = await database.fetch_one(WAKE_DUE)
    assert row is not None
    wait: timedelta | None = row["next"]
    return wait


async def claim(
    database: Database,
    worker: WorkerId,
    *,
    limit: int,
    shared_claims: int,
    weights: Mapping[str, float] = MappingProxyType({}),
) -> list[Claimed]:
    """Takes up to `limit` ready tasks; perhaps fewer than there are, where tenants take turns.

    Tenants in turn, by their `weights` (1 where none is given); of a tenant's tasks by due time,
    with a head start for the more urgent. A task that was claimed `shared_claims` times without a
    step is a suspect, and not among them.
    """
    rows = await database.fetch(
        CLAIM, worker, limit, shared_claims, list(weights), list(map(float, weights.values()))
    )
    return [Claimed(key=TaskKey(r["id"]), epoch=Epoch(r["epoch"])) for r in rows]


async def claim_beside(
    database: Database, worker: WorkerId, *, limit: int, shared_claims: int
) -> list[Claimed]:
    """Takes what does not wait for its turn: cancelled, past its deadline; and newcomers.

    Of each tenant that has nothing with this worker one task. Suspects are not among them.
    """
    rows = await database.fetch(CLAIM_BESIDE, worker, limit, shared_claims)
    return [Claimed(key=TaskKey(r["id"]), epoch=Epoch(r["epoch"])) for r in rows]


async def claim_suspect(
    database: Database, worker: WorkerId, *, shared_claims: int, max_claims: int
) -> list[Claimed]:
    """Takes one task that was claimed `shared_claims` times without a step, if it may join."""
    rows = await database.fetch(CLAIM_SUSPECT, worker, shared_claims, max_claims)
    return [Claimed(key=TaskKey(r["id"]), epoch=Epoch(r["epoch"])) for r in rows]


async def reap(database: Database, *, lease: timedelta, until: datetime) -> int:
    """Makes the tasks of dead workers runnable again; answers how many. Too late after `until`."""
    return len(await database.fetch(REAP, lease, until))


async def release(
    database: Database, worker: WorkerId, tasks: Sequence[Claimed], *, delay: timedelta | None
) -> int:
    """Gives tasks back that came to no rest of their own; answers how many were still owned.

    `delay` None: it was no fault of theirs. They are runnable at once and the claim does not count.
    """
    keys, epochs = [t.key for t in tasks], [t.epoch for t in tasks]
    return len(await database.fetch(RELEASE, worker, keys, epochs, delay))


async def outlived(database: Database, tasks: Sequence[Claimed]) -> int:
    """Takes these claims out of the count: others have the tasks, but no worker died of them.

    Answers how many tasks had claims that count.
    """
    keys, epochs = [t.key for t in tasks], [t.epoch for t in tasks]
    return len(await database.fetch(OUTLIVED, keys, epochs))


async def owned(database: Database, worker: WorkerId) -> list[Claimed]:
    """What PostgreSQL believes that this worker runs."""
    rows = await database.fetch(OWNED, worker)
    return [Claimed(key=TaskKey(r["id"]), epoch=Epoch(r["epoch"])) for r in rows]
