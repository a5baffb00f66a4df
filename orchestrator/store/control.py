"""What people tell tasks: to stop, to rest, to go on, or what became of a call.

It is a message like those of Kafka: it waits in the inbox, and the runner that owns the task, now
or next, applies it. One statement a thousand tasks; the caller sends the notice.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from orchestrator.domain.event import CLI
from orchestrator.domain.ids import Seq, TaskId, TaskKey
from orchestrator.domain.json import JsonObject
from orchestrator.domain.task import TaskStatus
from orchestrator.store.database import Database

UNFINISHED = (
    TaskStatus.EXPECTED,
    TaskStatus.READY,
    TaskStatus.RUNNING,
    TaskStatus.WAITING,
)
"""The tasks that hear anything at all."""

AT_ONCE = 1000

# The agents of a task are those of its last decision: whom it calls, or called last.
CHOSEN = """
    ($1::text[] IS NULL OR t.task_id = ANY ($1))
    AND ($2::text[] IS NULL OR t.status = ANY ($2))
    AND ($3::text IS NULL OR t.tenant = $3)
    AND ($4::timestamptz IS NULL OR t.created_at <= $4)
    AND ($5::text IS NULL OR strpos(lower(t.task_id), lower($5)) > 0
                          OR strpos(lower(t.description), lower($5)) > 0)
    AND ($6::text IS NULL OR EXISTS (
        SELECT FROM (SELECT s.body FROM steps s WHERE s.task = t.id AND s.kind = 'decision'
                     ORDER BY s.seq DESC LIMIT 1) decided
        WHERE decided.body->'decision'->'calls'
              @> jsonb_build_array(jsonb_build_object('agent', $6::text))))
"""

COUNT = f"""
SELECT count(*) AS tasks, coalesce(max(t.id), 0) AS last FROM tasks t WHERE {CHOSEN}
"""  # noqa: S608 - only constants of this module are put in

# As the engine reads it (`engine.moves`): the last word counts, also one that it has not read yet.
PAUSED = """
    coalesce(
        (SELECT i.event_type = 'pause' FROM inbox i
         WHERE i.task = t.id AND i.seq IS NULL AND i.event_type IN ('pause', 'resume')
         ORDER BY i.id DESC LIMIT 1),
        (SELECT s.kind = 'event' AND s.body->>'event_type' = 'pause' FROM steps s
         WHERE s.task = t.id AND (s.kind IN ('retried', 'forked')
             OR s.kind = 'event' AND s.body->>'event_type' IN ('pause', 'resume'))
         ORDER BY s.seq DESC LIMIT 1),
        false)
"""

TELL = f"""
WITH chosen AS MATERIALIZED (
    SELECT t.id, t.task_id, t.status,
           CASE $9::text WHEN 'pause' THEN {PAUSED} WHEN 'resume' THEN NOT {PAUSED}
                         ELSE false END AS is_so_already
    FROM tasks t
    WHERE {CHOSEN} AND t.id > $7 AND t.id <= $8
    ORDER BY t.id LIMIT {AT_ONCE} FOR UPDATE
), event AS (
    INSERT INTO inbox (task, event_type, payload, step, call, source)
    SELECT id, $9::text, $10, $11, $12, $13 FROM chosen
    WHERE status IN ('expected', 'ready', 'running', 'waiting') AND NOT is_so_already
    ORDER BY id
    RETURNING task
), woken AS (
    UPDATE tasks t SET
        wake = t.wake + 1,
        updated_at = now(),
        status = CASE WHEN t.status = 'waiting' THEN 'ready' ELSE t.status END,
        run_at = CASE WHEN t.status IN ('waiting', 'ready') THEN least(t.run_at, now())
                      ELSE t.run_at END,
        urgent_at = CASE WHEN $9::text = 'cancel' THEN coalesce(t.urgent_at, now())
                         ELSE t.urgent_at END
    FROM event WHERE t.id = event.task
)
SELECT c.id, c.task_id, c.status, event.task IS NOT NULL AS is_told
FROM chosen c LEFT JOIN event ON event.task = c.id ORDER BY c.id
"""  # noqa: S608 - only constants of this module are put in


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which tasks are meant; what is None does not narrow."""

    task_ids: tuple[TaskId, ...] | None = None
    statuses: tuple[TaskStatus, ...] | None = None
    tenant: str | None = None
    older_than: datetime | None = None
    """Accepted at this time or before."""
    text: str | None = None
    """Part of the id or the description, in any case."""
    agent: str | None = None
    """Called by the task's last decision."""

    def columns(self) -> tuple[object, ...]:
        statuses = None if self.statuses is None else [s.value for s in self.statuses]
        ids = None if self.task_ids is None else list(self.task_ids)
        return (ids, statuses, self.tenant, self.older_than, self.text, self.agent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What they are told."""

    event_type: str
    payload: JsonObject = field(default_factory=dict)
    step: Seq | None = None
    call: int | None = None
    source: str = CLI


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One task that was meant."""

    task_id: TaskId
    was: TaskStatus
    is_told: bool
    """False where it is over, or was paused (or not paused) already: nothing was changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    tasks: int
    last: TaskKey
    """The newest of them: a task that comes after the count is not meant."""


async def count(database: Database, selection: Selection) -> Count:
    """How many tasks are meant."""
    row = await database.fetch_one(COUNT, *selection.columns())
    assert row is not None
    return Count(tasks=row["tasks"], last=TaskKey(row["last"]))


async def tell(
    database: Database, message: Message, selection: Selection, *, upto: TaskKey | None = None
) -> list[Told]:
    """Tells all tasks that are meant, up to the task `upto`, a thousand a statement.

    An interruption leaves those of the statements before told; doing it again is harmless.
    """
    told: list[Told] = []
    after = TaskKey(0)
    what = (message.event_type, message.payload, message.step, message.call, message.source)
    while True:
        rows = await database.fetch(
            TELL, *selection.columns(), after, 2**63 - 1 if upto is None else upto, *what
        )
        told += [
            Told(
                task_id=TaskId(r["task_id"]),
                was=TaskStatus(r["status"]),
                is_told=r["is_told"],
            )
            for r in rows
        ]
        if len(rows) < AT_ONCE:
            return told
        after = TaskKey(rows[-1]["id"])


def missing(told: Sequence[Told], selection: Selection) -> list[TaskId]:
    """The named tasks that are not there."""
    found = {one.task_id for one in told}
    return [task_id for task_id in selection.task_ids or () if task_id not in found]
