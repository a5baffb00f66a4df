"""T6: what is on its way to Kafka, in the order in which it was written.

Rows are read by being there, never by "larger than the last id": ids become visible out of order,
and a high-water mark would lose some.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import orjson

from orchestrator.domain.ids import Seq, TaskId
from orchestrator.domain.json import JsonObject
from orchestrator.store.database import Database, Row

# The outbox is empty whenever PostgreSQL counts it, or full: plain joins are planned as hashes of
# whole tables. LIMIT keeps them what they should be, one look into an index for each row.
# What has no room any more is measured where it lies, and not read.
_NEXT = """
SELECT * FROM (
    SELECT o.id, o.topic, o.key, o.value, o.headers, t.task_id, t.tenant, t.traceparent,
           s.seq, s.kind, s.body, s.change, s.at,
           coalesce(sum(coalesce(pg_column_size(o.value), 0) + coalesce(pg_column_size(s.body), 0)
                        + coalesce(pg_column_size(s.change), 0))
                    OVER (ORDER BY o.id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)
               AS before
    FROM (SELECT * FROM outbox {which} ORDER BY id LIMIT $1) o
    LEFT JOIN LATERAL (
        SELECT task_id, tenant, traceparent FROM tasks WHERE id = o.task LIMIT 1
    ) t ON true
    LEFT JOIN LATERAL (
        -- What a model's answer holds for that model alone is nobody else's to read.
        SELECT seq, kind, change, at,
               CASE WHEN kind = 'decision' THEN body #- '{{message,kept}}' ELSE body END AS body
        FROM steps WHERE task = o.task AND seq = o.seq LIMIT 1
    ) s ON true
) o
WHERE before < $2
ORDER BY id
"""
NEXT = _NEXT.format(which="")
NEXT_UPDATES = _NEXT.format(which="WHERE topic IS NULL")
NEXT_LETTERS = _NEXT.format(which="WHERE topic = $3")

DELETE = "DELETE FROM outbox WHERE id = ANY($1::bigint[])"

# In one statement: a letter that tells of a row is written once, however often the row is sent.
REPLACE = """
WITH gone AS (DELETE FROM outbox WHERE id = ANY($1::bigint[]) RETURNING id)
INSERT INTO outbox (topic, key, value, headers)
SELECT l.topic, l.key, l.value, l.headers::jsonb
FROM unnest($2::bigint[], $3::text[], $4::bytea[], $5::bytea[], $6::text[])
    AS l(id, topic, key, value, headers)
JOIN gone USING (id) ORDER BY l.id
"""

SET_ASIDE = """
WITH gone AS (
    DELETE FROM outbox USING unnest($1::bigint[], $2::text[]) AS refused(id, reason)
    WHERE outbox.id = refused.id
    RETURNING outbox.*, refused.reason
)
INSERT INTO outbox_refused (id, task, seq, topic, key, value, headers, refused_by, reason)
SELECT id, task, seq, topic, key, value, headers, $3, reason FROM gone
"""

# Under their old ids: each goes before what came after it.
SEND_AGAIN = """
WITH page AS (
    SELECT id FROM outbox_refused WHERE id > $2 AND ($1::text IS NULL OR refused_by = $1)
    ORDER BY id LIMIT $3
), gone AS (
    DELETE FROM outbox_refused WHERE id IN (SELECT id FROM page)
    RETURNING id, task, seq, topic, key, value, headers
)
INSERT INTO outbox (id, task, seq, topic, key, value, headers) OVERRIDING SYSTEM VALUE
SELECT * FROM gone ORDER BY id RETURNING id
"""

REFUSED = """
SELECT refused_by, reason, count(*) AS rows, min(at) AS since FROM outbox_refused
GROUP BY refused_by, reason ORDER BY refused_by, rows DESC, reason LIMIT $1
"""

COUNT_REFUSED = "SELECT count(*) AS rows FROM (SELECT FROM outbox_refused LIMIT 10000) counted"

# Counted only so far: a number to alarm on must not cost more the worse it is.
BACKLOG = """
SELECT count(*) AS rows,
       coalesce((SELECT extract(epoch FROM now() - s.at)::float8 FROM outbox o
                 JOIN steps s ON s.task = o.task AND s.seq = o.seq ORDER BY o.id LIMIT 1), 0)
           AS oldest_seconds
FROM (SELECT FROM outbox LIMIT 10000) counted
"""


SEND_AGAIN_PAGE = 100
"""Messages may have a megabyte each, and a statement has 10 s."""

ALL_QUEUES = ""
"""For `next_rows`; no topic has this name."""


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


async def next_rows(
    database: Database, limit: int, *, max_bytes: int = 2**62, queue: str | None = ALL_QUEUES
) -> list[OutboxRow]:
    """The oldest rows, in order; they stay until `delete`.

    Of all queues, or of one: the letters for a topic, or the updates (None).
    One at least, and more until they have `max_bytes`, as PostgreSQL keeps them: JSON is some times
    as much.
    """
    found: list[OutboxRow] = []
    for r in await _next(database, limit, max_bytes, queue):
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


async def _next(database: Database, limit: int, max_bytes: int, queue: str | None) -> Sequence[Row]:
    if queue == ALL_QUEUES:
        return await database.fetch(NEXT, limit, max_bytes)
    if queue is None:
        return await database.fetch(NEXT_UPDATES, limit, max_bytes)
    return await database.fetch(NEXT_LETTERS, limit, max_bytes, queue)


async def delete(database: Database, ids: Sequence[int], *, letters: Sequence[Letter] = ()) -> None:
    """Removes rows that Kafka has acknowledged; `letters` take the place of those of their ids."""
    if not letters:
        await database.fetch(DELETE, list(ids))
        return
    await database.fetch(
        REPLACE,
        list(ids),
        [letter.id for letter in letters],
        [letter.topic for letter in letters],
        [letter.key for letter in letters],
        [letter.value for letter in letters],
        [orjson.dumps(letter.headers).decode() for letter in letters],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Messages that a topic refused for one reason."""

    topic: str
    reason: str
    rows: int
    since: datetime


async def set_aside(database: Database, reasons: Mapping[int, str], *, topic: str) -> None:
    """Takes rows, by their ids, out of the way of those behind them, with the reason of each."""
    await database.fetch(SET_ASIDE, list(reasons), list(reasons.values()), topic)


async def send_again(database: Database, *, topic: str | None = None) -> int:
    """Puts what was set aside back into the outbox, of one topic or of all; answers how many.

    Page by page, oldest first: what is refused again meanwhile is not sent a third time.
    """
    count, last = 0, 0
    while page := await database.fetch(SEND_AGAIN, topic, last, SEND_AGAIN_PAGE):
        count, last = count + len(page), max(row["id"] for row in page)
    return count


async def refused(database: Database, *, limit: int = 50) -> list[Refused]:
    """What is set aside, by topic and reason."""
    return [
        Refused(topic=r["refused_by"], reason=r["reason"], rows=r["rows"], since=r["since"])
        for r in await database.fetch(REFUSED, limit)
    ]


async def count_refused(database: Database) -> int:
    """How many rows are set aside; counted up to 10000."""
    row = await database.fetch_one(COUNT_REFUSED)
    assert row is not None
    return int(row["rows"])


async def backlog(database: Database) -> tuple[int, float]:
    """How many rows there are (up to 10000), and the age of the oldest step in seconds."""
    row = await database.fetch_one(BACKLOG)
    assert row is not None
    return row["rows"], max(0.0, row["oldest_seconds"])
