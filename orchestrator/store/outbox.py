"""T6: what is on its way to Kafka, in the order in which it was written.

Rows are read by being there, never by "larger than the last id": ids become visible out of order,
and a high-water mark would lose some.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from orchestrator.domain.ids import Seq, TaskId
from orchestrator.domain.json import JsonObject
from orchestrator.store.database import Database

# The outbox is empty whenever PostgreSQL counts it, or full: plain joins are planned as hashes of
# whole tables. LIMIT keeps them what they should be, one look into an index for each row.
# What has no room any more is measured where it lies, and not read.
NEXT = """
SELECT * FROM (
    SELECT o.id, o.topic, o.key, o.value, o.headers, t.task_id, t.tenant, t.traceparent,
           s.seq, s.kind, s.body, s.change, s.at,
           coalesce(sum(coalesce(pg_column_size(o.value), 0) + coalesce(pg_column_size(s.body), 0)
                        + coalesce(pg_column_size(s.change), 0))
                    OVER (ORDER BY o.id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)
               AS before
    FROM (SELECT * FROM outbox ORDER BY id LIMIT $1) o
    LEFT JOIN LATERAL (
        SELECT task_id, tenant, traceparent FROM tasks WHERE id = o.task LIMIT 1
    ) t ON true
    LEFT JOIN LATERAL (
        -- What a model's answer holds for that model alone is nobody else's to read.
        SELECT seq, kind, change, at,
               CASE WHEN kind = 'decision' THEN body #- '{message,kept}' ELSE body END AS body
        FROM steps WHERE task = o.task AND seq = o.seq LIMIT 1
    ) s ON true
) o
WHERE before < $2
ORDER BY id
"""

DELETE = "DELETE FROM outbox WHERE id = ANY($1::bigint[])"

# Counted only so far: a number to alarm on must not cost more the worse it is.
BACKLOG = """
SELECT count(*) AS rows,
       coalesce((SELECT extract(epoch FROM now() - s.at)::float8 FROM outbox o
                 JOIN steps s ON s.task = o.task AND s.seq = o.seq ORDER BY o.id LIMIT 1), 0)
           AS oldest_seconds
FROM (SELECT FROM outbox LIMIT 10000) counted
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepUpdate:
    """A journaled step that `task-updates` is to be told of."""

    id: int
    task_id: TaskId
    tenant: str
    traceparent: str | None
    seq: Seq
    kind: str
    body: JsonObject
    change: JsonObject | None
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A whole Kafka message, ready as it is."""

    id: int
    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """A row whose step or task was deleted meanwhile: there is nothing to publish."""

    id: int


OutboxRow = StepUpdate | Letter | Gone


async def next_rows(database: Database, limit: int, *, max_bytes: int = 2**62) -> list[OutboxRow]:
    """The oldest rows, in order; they stay until `delete`.

    One at least, and more until they have `max_bytes`, as PostgreSQL keeps them: JSON is some times
    as much.
    """
    found: list[OutboxRow] = []
    for r in await database.fetch(NEXT, limit, max_bytes):
        if r["topic"] is not None:
            headers = tuple((name, value) for name, value in r["headers"] or ())
            found.append(
                Letter(
                    id=r["id"], topic=r["topic"], key=r["key"], value=r["value"], headers=headers
                )
            )
        elif r["task_id"] is None or r["seq"] is None:
            found.append(Gone(id=r["id"]))
        else:
            found.append(
                StepUpdate(
                    id=r["id"],
                    task_id=TaskId(r["task_id"]),
                    tenant=r["tenant"],
                    traceparent=r["traceparent"],
                    seq=Seq(r["seq"]),
                    kind=r["kind"],
                    body=r["body"],
                    change=r["change"],
                    at=r["at"],
                )
            )
    return found


async def delete(database: Database, ids: Sequence[int]) -> None:
    """Removes rows that Kafka has acknowledged."""
    await database.fetch(DELETE, list(ids))


async def backlog(database: Database) -> tuple[int, float]:
    """How many rows there are (up to 10000), and the age of the oldest step in seconds."""
    row = await database.fetch_one(BACKLOG)
    assert row is not None
    return row["rows"], max(0.0, row["oldest_seconds"])
