"""T3: steps of many tasks, their updates and their tasks' new state, in one statement.

Each entry carries the epoch under which its task was claimed; where that is no longer the task's,
none of the entry is written. Sending the same entries twice is harmless.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import orjson

from orchestrator.domain.errors import StoreRejected
from orchestrator.domain.ids import Epoch, Seq, TaskKey
from orchestrator.domain.json import JsonObject
from orchestrator.domain.step import Step, dump_body
from orchestrator.domain.task import TaskStatus
from orchestrator.store.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskLetter:
    """A task's own message goes to dead letters, because nobody goes on with the task."""

    topic: str
    """The dead-letter topic's name."""
    reason: str
    """`dlq.reason`: the failure's code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """The state in which a task gives its worker back."""

    status: TaskStatus
    run_at: datetime | None = None
    """When to look again; None: when an event comes."""
    reason: str | None = None
    """For people: what it waits for, or why it failed."""
    parked_for: tuple[str, ...] = ()
    """The agents and models that it waits for (`store.targets` wakes it)."""
    letter: TaskLetter | None = None


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What one task writes at once."""

    key: TaskKey
    epoch: Epoch
    seq: Seq
    """The task's last step, these included."""
    steps: tuple[Step, ...] = ()
    applied: tuple[tuple[int, Seq], ...] = ()
    """Inbox messages that these steps folded in: (inbox id, step)."""
    context: str | None = None
    """The context after these steps as JSON text; None leaves the stored one as it is."""
    tokens: int = 0
    """The task's total so far."""
    cost_micros: int = 0
    seen: int = 0
    """`tasks.wake` when its inbox was last read."""
    rest: Rest | None = None

    @cached_property
    def texts(self) -> tuple[list[str], list[str | None]]:
        """The steps' bodies and changes as JSON.

        Raises:
            StoreRejected: one holds what JSON can't (half of a surrogate pair, an endless integer,
                no end of nesting): models do write such things.
        """
        try:
            return [dump_body(s.body) for s in self.steps], [_json(s.change) for s in self.steps]
        except (TypeError, ValueError) as error:
            raise StoreRejected(f"a value can't be written as JSON: {error}") from error

    @property
    def size(self) -> int:
        """Characters of JSON that it adds to its task's journal."""
        bodies, changes = self.texts
        return sum(map(len, bodies)) + sum(len(c) for c in changes if c)


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """The task after an entry was written."""

    status: TaskStatus
    wake: int


JOURNAL = """
WITH entry AS MATERIALIZED (
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::int[], $4::text[], $5::bigint[],
                         $6::bigint[], $7::text[], $8::timestamptz[], $9::text[], $18::int[],
                         $19::text[], $20::text[], $21::bigint[], $22::bigint[], $23::text[])
    AS e(task, epoch, seq, context, tokens, seen, status, run_at, reason, follows, dead_letters,
         parked_for, cost_micros, size, dead_reason)
), locked AS MATERIALIZED (
    SELECT id, epoch, seq FROM tasks WHERE id = ANY($1) ORDER BY id FOR UPDATE
), owned AS MATERIALIZED (
    -- A server that forgot its last commits (a restore, a failover) must not get a journal with a
    -- hole: what would follow a step that is not there is refused like a stale owner's.
    SELECT e.* FROM entry e JOIN locked l ON l.id = e.task AND l.epoch = e.epoch
                                         AND l.seq >= e.follows
), step AS (
    INSERT INTO steps (task, seq, kind, body, change, epoch)
    SELECT s.task, s.seq, s.kind, s.body::jsonb, s.change::jsonb, o.epoch
    FROM unnest($10::bigint[], $11::int[], $12::text[], $13::text[], $14::text[])
         AS s(task, seq, kind, body, change)
    JOIN owned o USING (task)
    ON CONFLICT DO NOTHING
    RETURNING task, seq
), told AS (
    INSERT INTO outbox (task, seq) SELECT task, seq FROM step ORDER BY task, seq
), dead AS (
    INSERT INTO outbox (topic, key, value, headers)
    SELECT o.dead_letters, i.key, i.value,
           dead_letter_headers(o.dead_reason, o.reason, t.task_id, i.source, i.headers)
    FROM owned o JOIN tasks t ON t.id = o.task JOIN inbox i ON i.task = o.task
    WHERE o.dead_letters IS NOT NULL AND i.event_type = 'task'
      AND EXISTS (SELECT FROM step s WHERE s.task = o.task)
), applied AS (
    UPDATE inbox i SET seq = a.seq
    FROM unnest($15::bigint[], $16::bigint[], $17::int[]) AS a(task, id, seq)
    JOIN owned o USING (task)
    WHERE i.id = a.id AND i.task = a.task
)
UPDATE tasks t SET
    seq = greatest(t.seq, o.seq),
    bytes = t.bytes + o.size,
    context = coalesce(o.context::jsonb, t.context),
    context_seq = CASE WHEN o.context IS NULL THEN t.context_seq ELSE o.seq END,
    tokens = o.tokens,
    cost_micros = o.cost_micros,
    -- To come to rest is progress too, also where there was nothing to write down.
    claims = CASE WHEN o.seq > t.seq OR o.status IS NOT NULL THEN 0 ELSE t.claims END,
    updated_at = now(),
    status = CASE
        WHEN o.status IS NULL THEN t.status
        -- A message that came while the task was coming to rest must not be slept through.
        WHEN o.status = 'waiting' AND t.wake > o.seen THEN 'ready'
        ELSE o.status END,
    run_at = CASE
        WHEN o.status IS NULL THEN t.run_at
        WHEN o.status = 'waiting' AND t.wake > o.seen THEN now()
        ELSE coalesce(o.run_at, 'infinity') END,
    reason = CASE WHEN o.status IS NULL THEN t.reason ELSE o.reason END,
    parked_for = CASE WHEN o.status IS NULL THEN t.parked_for ELSE o.parked_for::jsonb END,
    owner = CASE WHEN o.status IS NULL THEN t.owner END,
    finished_at = CASE
        WHEN o.status IN ('completed', 'failed', 'cancelled') THEN now()
        ELSE t.finished_at END
FROM owned o WHERE t.id = o.task
RETURNING t.id, t.status, t.wake
"""


def _json(value: JsonObject | None) -> str | None:
    return None if value is None else orjson.dumps(value).decode()


async def journal(database: Database, entries: Sequence[Entry]) -> dict[TaskKey, Written]:
    """Writes at most one entry a task; a task that is missing from the answer has a newer owner.

    Raises:
        StoreUnavailable: whether it took effect is unknown; send the same entries again.
        StoreRejected: a value of one of the entries can't be stored; none was written.
    """
    steps = [(e.key, s) for e in entries for s in e.steps]
    texts = [e.texts for e in entries]
    applied = [(e.key, message, seq) for e in entries for message, seq in e.applied]
    rests = [e.rest for e in entries]
    letters = [r.letter if r else None for r in rests]
    rows = await database.fetch(
        JOURNAL,
        [e.key for e in entries],
        [e.epoch for e in entries],
        [e.seq for e in entries],
        [e.context for e in entries],
        [e.tokens for e in entries],
        [e.seen for e in entries],
        [r.status.value if r else None for r in rests],
        [r.run_at if r else None for r in rests],
        [r.reason if r else None for r in rests],
        [key for key, _ in steps],
        [s.seq for _, s in steps],
        [s.body.kind for _, s in steps],
        [body for bodies, _ in texts for body in bodies],
        [change for _, changes in texts for change in changes],
        [key for key, _, _ in applied],
        [message for _, message, _ in applied],
        [seq for _, _, seq in applied],
        [e.seq - len(e.steps) for e in entries],
        [letter.topic if letter else None for letter in letters],
        [orjson.dumps(r.parked_for).decode() if r and r.parked_for else None for r in rests],
        [e.cost_micros for e in entries],
        [e.size for e in entries],
        [letter.reason if letter else None for letter in letters],
    )
    return {TaskKey(r["id"]): Written(status=TaskStatus(r["status"]), wake=r["wake"]) for r in rows}
