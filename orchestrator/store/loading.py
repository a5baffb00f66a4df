"""What a worker reads of the tasks that it owns: their journals, and what they were sent."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
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
