"""T1: a batch of Kafka messages becomes rows, and the partitions' positions move with them.

One statement. A partition whose position is not where the batch began has a newer owner: nothing of
its messages is written, and it is missing from the answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import orjson

from orchestrator.domain.budget import NO_BUDGET, Budget
from orchestrator.domain.event import URGENT
from orchestrator.domain.ids import Epoch, TaskId, TaskKey, WorkerId
from orchestrator.domain.json import JsonObject
from orchestrator.store.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a message lay, and its bytes as they came."""

    topic: str
    partition: int
    offset: int
    key: bytes | None = None
    value: bytes | None = None
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def source(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTask:
    """A valid task message."""

    origin: Origin
    task_id: TaskId
    description: str
    context: JsonObject
    kind: str = "agentic"
    tenant: str = "default"
    priority: int = 1
    deadline: datetime | None = None
    budget: Budget = NO_BUDGET
    metadata: JsonObject = field(default_factory=dict)
    traceparent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEvent:
    """A valid event message."""

    origin: Origin
    task_id: TaskId
    event_type: str
    payload: JsonObject
    event_id: str | None = None
    step: int | None = None
    call: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A message for the dead-letter topic: the original bytes, and headers that say why."""

    origin: Origin
    topic: str
    """The dead-letter topic's name."""
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Advance:
    """A partition's position before and after the batch."""

    topic: str
    partition: int
    expected: int
    next_offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one poll brought; messages in the order of their partitions."""

    cluster_id: str
    advances: tuple[Advance, ...]
    messages: tuple[NewTask | NewEvent, ...] = ()
    dead_letters: tuple[DeadLetter, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A task that this worker owns from now on, under this epoch."""

    key: TaskKey
    epoch: Epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingested:
    """What became of a batch."""

    moved: frozenset[tuple[str, int]]
    """(topic, partition) whose messages are in; the others have another owner."""
    claimed: tuple[Claimed, ...] = ()
    """Tasks to run here."""
    woken: tuple[TaskKey, ...] = ()
    """Tasks that run, here or elsewhere, and have a new message that can't wait."""
    left_ready: int = 0
    """Runnable tasks that found no room here."""
    dropped: int = 0
    """Messages that were not kept: their ids were known."""


INGEST = """
WITH moved AS (
    UPDATE kafka_positions p SET next_offset = a.next_offset, updated_at = now()
    FROM unnest($2::text[], $3::int[], $4::bigint[], $5::bigint[])
         AS a(topic, partition, expected, next_offset)
    WHERE p.cluster_id = $1 AND p.topic = a.topic AND p.partition = a.partition
      AND p.next_offset = a.expected
    RETURNING p.topic, p.partition
), message AS MATERIALIZED (
    SELECT m.* FROM unnest(
        $6::text[], $7::int[], $8::bigint[], $9::text[], $10::text[], $11::text[], $12::text[],
        $13::int[], $14::int[], $15::text[], $16::bytea[], $17::bytea[], $18::text[]
    ) WITH ORDINALITY AS m(topic, partition, "offset", task_id, event_type, event_id, payload,
                           step, call, task, key, value, headers, n)
    -- One row that the planner takes for a thousand, and a condition that it takes for likely: with
    -- what it makes of parameters alone it joins the batch to itself row by row, 60 times slower.
    CROSS JOIN regexp_split_to_table('', ',') AS many
    WHERE coalesce(m.topic || '/' || m.partition
                   = ANY (ARRAY(SELECT topic || '/' || partition FROM moved)), false)
), dead AS (
    INSERT INTO outbox (topic, key, value, headers)
    SELECT d.dead_topic, d.key, d.value, d.headers::jsonb
    FROM unnest($19::text[], $20::int[], $21::text[], $22::bytea[], $23::bytea[], $24::text[])
         WITH ORDINALITY AS d(topic, partition, dead_topic, key, value, headers, n)
    JOIN moved USING (topic, partition)
    ORDER BY d.n
), first_task AS (
    SELECT DISTINCT ON (task_id) task_id, n, task::jsonb AS doc FROM message
    WHERE task IS NOT NULL ORDER BY task_id, n
), touched AS MATERIALIZED (
    SELECT m.task_id, f.doc, count(*) FILTER (WHERE m.task IS NULL) AS events,
           sum(octet_length(coalesce(m.task, m.payload))) AS bytes,
           coalesce(bool_or(m.event_type = 'cancel'), false) AS is_cancelled,
           row_number() OVER (ORDER BY min(m.n)) <= $25::int AS has_room
    FROM message m LEFT JOIN first_task f USING (task_id) GROUP BY m.task_id, f.doc
), locked AS MATERIALIZED (
    -- In the order in which the journal locks too, or the two deadlock.
    SELECT id FROM tasks WHERE task_id = ANY (ARRAY(SELECT task_id FROM touched))
    ORDER BY id FOR UPDATE
), written AS (
    INSERT INTO tasks AS t (
        task_id, kind, tenant, description, status, context, context_seq, seq, priority, deadline,
        budget_tokens, budget, metadata, traceparent, run_at, wake, bytes, claims, epoch, owner,
        urgent_at)
    SELECT g.task_id, coalesce(doc->>'kind', 'agentic'), coalesce(doc->>'tenant', 'default'),
        coalesce(doc->>'description', ''),
        CASE WHEN doc IS NULL THEN 'expected' WHEN has_room THEN 'running' ELSE 'ready' END,
        coalesce(doc->'context', '{}'), CASE WHEN doc IS NULL THEN 0 ELSE 1 END,
        CASE WHEN doc IS NULL THEN 0 ELSE 1 END,
        coalesce((doc->>'priority')::smallint, 1), (doc->>'deadline')::timestamptz,
        (doc->'budget'->>'tokens')::bigint, nullif(doc->'budget', '{}'),
        coalesce(doc->'metadata', '{}'), doc->>'traceparent',
        CASE WHEN doc IS NULL THEN now() + $26::interval ELSE now() END,
        g.events, coalesce(g.bytes, 0),
        -- For a row that exists, this is how the update below learns that there is room.
        CASE WHEN has_room THEN 1 ELSE 0 END,
        CASE WHEN doc IS NOT NULL AND has_room THEN 1 ELSE 0 END,
        CASE WHEN doc IS NOT NULL AND has_room THEN $27::bigint END,
        CASE WHEN g.is_cancelled THEN now() END
    FROM touched g WHERE (SELECT count(*) FROM locked) >= 0
    ORDER BY g.task_id
    ON CONFLICT (task_id) DO UPDATE SET
        wake = t.wake + excluded.wake,
        bytes = t.bytes + excluded.bytes,
        reason = CASE WHEN t.status = 'waiting' AND excluded.wake > 0 THEN NULL ELSE t.reason END,
        updated_at = now(),
        urgent_at = coalesce(t.urgent_at, excluded.urgent_at),
        -- What is only expected so far has nothing of its own; what is there keeps all it has.
        (kind, tenant, description, context, context_seq, seq, priority, deadline,
         budget_tokens, budget, metadata, traceparent, created_at) = (
            SELECT excluded.kind, excluded.tenant, excluded.description, excluded.context,
                excluded.seq, excluded.seq, excluded.priority, excluded.deadline,
                excluded.budget_tokens, excluded.budget, excluded.metadata, excluded.traceparent,
                CASE WHEN excluded.status = 'expected' THEN t.created_at ELSE now() END
            WHERE t.status = 'expected'
            UNION ALL
            SELECT t.kind, t.tenant, t.description, t.context, t.context_seq, t.seq, t.priority,
                t.deadline, t.budget_tokens, t.budget, t.metadata, t.traceparent, t.created_at
            WHERE t.status <> 'expected'),
        (status, epoch, owner, claims, run_at) = (
            SELECT excluded.status, t.epoch + (excluded.status = 'running')::int, excluded.owner,
                excluded.epoch, CASE WHEN excluded.status = 'expected' THEN t.run_at ELSE now() END
            WHERE t.status = 'expected'
            UNION ALL
            -- An event wakes it: it runs here, or keeps its place among those that wait for room.
            SELECT CASE WHEN here THEN 'running' ELSE 'ready' END, t.epoch + here::int,
                CASE WHEN here THEN $27 ELSE t.owner END, t.claims + here::int,
                least(t.run_at, now())
            FROM (SELECT excluded.claims = 1 AND t.claims < $28 AS here) AS runs
            WHERE t.status IN ('waiting', 'ready') AND excluded.wake > 0
            UNION ALL
            SELECT t.status, t.epoch, t.owner, t.claims, t.run_at
            WHERE NOT (t.status = 'expected'
                       OR t.status IN ('waiting', 'ready') AND excluded.wake > 0))
    RETURNING t.id, t.task_id, t.status, t.epoch, t.owner
), accepted AS (
    INSERT INTO steps (task, seq, kind, body, change, epoch)
    SELECT w.id, 1, 'accepted',
           jsonb_build_object('description', g.doc->'description', 'source', g.doc->'source'),
           g.doc->'context', w.epoch
    FROM written w JOIN touched g USING (task_id)
    WHERE g.doc IS NOT NULL
    ON CONFLICT DO NOTHING
    RETURNING task
), told AS (
    INSERT INTO outbox (task, seq) SELECT task, 1 FROM accepted ORDER BY task
), kept AS (
    INSERT INTO inbox (task, event_type, event_id, payload, step, call, seq, source,
                       key, value, headers)
    SELECT w.id, m.event_type, m.event_id, coalesce(m.payload, '{}')::jsonb, m.step, m.call,
           CASE WHEN m.task IS NOT NULL THEN 1 END,
           m.topic || '/' || m.partition || '/' || m."offset", m.key, m.value, m.headers::jsonb
    FROM message m JOIN written w USING (task_id)
    LEFT JOIN first_task f ON f.task_id = m.task_id AND f.n = m.n
    LEFT JOIN accepted a ON a.task = w.id
    WHERE m.task IS NULL OR (f.n IS NOT NULL AND a.task IS NOT NULL)
    ORDER BY m.n
    ON CONFLICT (task, event_id) WHERE event_id IS NOT NULL DO NOTHING
    RETURNING task
)
SELECT 'moved' AS what, topic, partition, NULL::bigint AS id, NULL::bigint AS epoch FROM moved
UNION ALL
SELECT CASE WHEN w.status = 'ready' THEN 'ready' ELSE 'mine' END, NULL, NULL, w.id, w.epoch
FROM written w WHERE w.status = 'ready' OR w.status = 'running' AND w.owner = $27
UNION ALL
SELECT 'kept', NULL, NULL, count(*), NULL FROM kept
UNION ALL
SELECT 'woken', NULL, NULL, w.id, w.epoch
FROM written w WHERE w.status = 'running' AND w.task_id = ANY ($29::text[])
"""


def _task_document(task: NewTask) -> str:
    return orjson.dumps(
        {
            "description": task.description,
            "context": task.context,
            "kind": task.kind,
            "tenant": task.tenant,
            "priority": task.priority,
            "deadline": task.deadline,
            "budget": {} if task.budget == NO_BUDGET else task.budget.to_json(),
            "metadata": task.metadata,
            "traceparent": task.traceparent,
            "source": task.origin.source,
        }
    ).decode()


def _headers(headers: Sequence[tuple[str, str]]) -> str:
    return orjson.dumps(headers).decode()


def _message_columns(messages: Sequence[NewTask | NewEvent]) -> list[list[object]]:
    rows: list[tuple[object, ...]] = []
    for m in messages:
        where = (m.origin.topic, m.origin.partition, m.origin.offset, m.task_id)
        match m:
            case NewTask():
                what: tuple[object, ...] = ("task", None, None, None, None, _task_document(m))
            case NewEvent():
                payload = orjson.dumps(m.payload).decode()
                what = (m.event_type, m.event_id, payload, m.step, m.call, None)
        rows.append(
            (*where, *what, m.origin.key, m.origin.value, _headers(m.origin.headers)),
        )
    return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(13)]


async def ingest(
    database: Database,
    batch: Batch,
    *,
    worker: WorkerId,
    room: int,
    expected_for: timedelta,
    shared_claims: int,
) -> Ingested:
    """Writes a batch; claims up to `room` of its tasks for `worker` in the same statement.

    Raises:
        StoreUnavailable: whether it took effect is unknown. Sending it again is safe: a batch that
            is in already no longer finds its position, and answers `moved` without its partitions.
        StoreRejected: one of the values can't be stored.
    """
    dead = batch.dead_letters
    rows = await database.fetch(
        INGEST,
        batch.cluster_id,
        [a.topic for a in batch.advances],
        [a.partition for a in batch.advances],
        [a.expected for a in batch.advances],
        [a.next_offset for a in batch.advances],
        *_message_columns(batch.messages),
        [d.origin.topic for d in dead],
        [d.origin.partition for d in dead],
        [d.topic for d in dead],
        [d.key for d in dead],
        [d.value for d in dead],
        [_headers(d.headers) for d in dead],
        room,
        expected_for,
        worker,
        shared_claims,
        [m.task_id for m in batch.messages if isinstance(m, NewEvent) and m.event_type in URGENT],
    )
    moved = frozenset((r["topic"], r["partition"]) for r in rows if r["what"] == "moved")
    came = sum((m.origin.topic, m.origin.partition) in moved for m in batch.messages)
    return Ingested(
        moved=moved,
        claimed=tuple(
            Claimed(key=TaskKey(r["id"]), epoch=Epoch(r["epoch"]))
            for r in rows
            if r["what"] == "mine"
        ),
        woken=tuple(TaskKey(r["id"]) for r in rows if r["what"] == "woken"),
        left_ready=sum(1 for r in rows if r["what"] == "ready"),
        dropped=came - sum(r["id"] for r in rows if r["what"] == "kept"),
    )
