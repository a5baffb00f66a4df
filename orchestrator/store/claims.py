"""T2 and T5: who runs which task. Every change of owner is a new epoch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from orchestrator.domain.budget import Budget
from orchestrator.domain.context import Context
from orchestrator.domain.errors import UnreadableJournal
from orchestrator.domain.event import URGENT as EVENTS
from orchestrator.domain.event import InboxMessage
from orchestrator.domain.ids import Epoch, Seq, TaskId, TaskKey, WorkerId
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.step import Step, load_body
from orchestrator.domain.task import Task
from orchestrator.store.database import Database, Row
from orchestrator.store.ingest import Claimed

# Each step of `queue` is one look into the index, for the next tenant that has anything ready: so
# the cost grows with the tenants, never with their tasks. Then a lottery: from a tenant's ticket to
# its next there is a random distance, the smaller the greater its weight; the smallest tickets win.
# So turns are fair over any number of claims and workers, and nobody has to remember whose it was.
CLAIM = """
WITH RECURSIVE queue AS (
    (SELECT tenant FROM tasks WHERE status = 'ready' ORDER BY tenant LIMIT 1)
    UNION ALL
    SELECT (SELECT t.tenant FROM tasks t WHERE t.status = 'ready' AND t.tenant > q.tenant
            ORDER BY t.tenant LIMIT 1)
    FROM queue q WHERE q.tenant IS NOT NULL
), turn AS MATERIALIZED (
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
"""

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

_MESSAGES = """
(SELECT json_agg(json_build_array(i.id, i.event_type, i.payload, i.step, i.call, i.source)
                 ORDER BY i.id)
 FROM inbox i WHERE i.task = t.id AND i.seq IS NULL)
"""

# Journals may be large, and many at once: so many as fit, of the others the ids alone.
LOAD = """
WITH owned AS MATERIALIZED (
    SELECT id, coalesce(sum(bytes) OVER (
        ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) < $3 AS fits
    FROM tasks WHERE id = ANY($1::bigint[]) AND status = 'running' AND owner = $2
)
SELECT owned.id, owned.fits, task.* FROM owned LEFT JOIN LATERAL (
    SELECT t.task_id, t.kind, t.tenant, t.description, t.deadline, t.budget_tokens, t.budget,
           t.metadata, t.traceparent, t.created_at, t.epoch, t.wake, t.context, t.context_seq,
           t.claims, t.bytes,
           (SELECT json_agg(json_build_array(s.seq, s.kind, s.body, s.change, s.at) ORDER BY s.seq)
            FROM steps s WHERE s.task = t.id) AS steps,
           $messages AS inbox
    FROM tasks t WHERE t.id = owned.id AND owned.fits
    OFFSET 0  -- asked first: else a journal is built for each that does not fit, and thrown away
) task ON true
""".replace("$messages", _MESSAGES)

UNREAD = "SELECT t.wake, $messages AS inbox FROM tasks t WHERE t.id = $1".replace(
    "$messages", _MESSAGES
)

URGENT = """
SELECT t.id FROM tasks t
WHERE t.status = 'running' AND t.owner = $1
  AND EXISTS (SELECT FROM inbox i
              WHERE i.task = t.id AND i.seq IS NULL AND i.event_type = ANY($2::text[]))
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A claimed task as its runner begins with it."""

    snapshot: Snapshot
    inbox: tuple[InboxMessage, ...]
    """Messages that are not applied yet, in the order of their arrival."""
    wake: int
    """`tasks.wake` at the moment of reading."""
    claims: int = 1
    bytes: int = 0
    """Of its journal and its messages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferred:
    """A claimed task whose journal did not fit; it is still owned."""

    key: TaskKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A claimed task that this release can't run."""

    claimed: Claimed
    claims: int
    error: UnreadableJournal


def _steps(rows: list[list[Any]] | None) -> tuple[Step, ...]:
    return tuple(
        Step(
            seq=Seq(seq),
            body=load_body(kind, body),
            change=change,
            at=datetime.fromisoformat(at),
        )
        for seq, kind, body, change, at in rows or ()
    )


def _inbox(rows: list[list[Any]] | None) -> tuple[InboxMessage, ...]:
    return tuple(
        InboxMessage(id=id_, event_type=kind, payload=payload, step=step, call=call, source=source)
        for id_, kind, payload, step, call, source in rows or ()
    )


def _context(row: Row, steps: tuple[Step, ...]) -> Context:
    """The stored context, and what later steps changed: a large one is not rewritten every time."""
    context = Context.from_json(row["context"])
    for step in steps:
        if step.seq > row["context_seq"]:
            context = context.apply(step.change)
    return context


def _loaded(row: Row) -> Loaded:
    steps = _steps(row["steps"])
    task = Task(
        key=TaskKey(row["id"]),
        task_id=TaskId(row["task_id"]),
        kind=row["kind"],
        tenant=row["tenant"],
        description=row["description"],
        deadline=row["deadline"],
        budget=Budget.of_row(tokens=row["budget_tokens"], document=row["budget"]),
        metadata=row["metadata"],
        created_at=row["created_at"],
        traceparent=row["traceparent"],
    )
    return Loaded(
        snapshot=Snapshot(
            task=task, epoch=Epoch(row["epoch"]), context=_context(row, steps), steps=steps
        ),
        inbox=_inbox(row["inbox"]),
        wake=row["wake"],
        claims=row["claims"],
        bytes=row["bytes"],
    )


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


async def claim_suspect(
    database: Database, worker: WorkerId, *, shared_claims: int, max_claims: int
) -> list[Claimed]:
    """Takes one task that was claimed `shared_claims` times without a step, if it may join."""
    rows = await database.fetch(CLAIM_SUSPECT, worker, shared_claims, max_claims)
    return [Claimed(key=TaskKey(r["id"]), epoch=Epoch(r["epoch"])) for r in rows]


async def load(
    database: Database, worker: WorkerId, keys: Sequence[TaskKey], *, max_bytes: int = 2**62
) -> list[Loaded | Unreadable | Deferred]:
    """The tasks among `keys` that the worker owns, with their journals and unread messages.

    One at least, and more until they have `max_bytes`; the others are deferred.
    """
    return [_read(row) for row in await database.fetch(LOAD, list(keys), worker, max_bytes)]


def _read(row: Row) -> Loaded | Unreadable | Deferred:
    if not row["fits"]:
        return Deferred(key=TaskKey(row["id"]))
    try:
        return _loaded(row)
    except UnreadableJournal as error:
        claimed = Claimed(key=TaskKey(row["id"]), epoch=Epoch(row["epoch"]))
        return Unreadable(claimed=claimed, claims=row["claims"], error=error)


async def unread(database: Database, key: TaskKey) -> tuple[tuple[InboxMessage, ...], int]:
    """The messages that are not applied yet, and `tasks.wake` at that moment."""
    row = await database.fetch_one(UNREAD, key)
    assert row is not None, f"task {key} is gone"
    return _inbox(row["inbox"]), row["wake"]


async def urgent(database: Database, worker: WorkerId) -> list[TaskKey]:
    """The tasks that this worker runs and that have a message which can't wait."""
    return [TaskKey(r["id"]) for r in await database.fetch(URGENT, worker, list(EVENTS))]


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
