"""Messages that were not kept because their ids were known, beside those that were kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from orchestrator.store.database import Database
from orchestrator.store.ingest import NewEvent, NewTask, Origin

MAX_KEPT = 500
"""A batch may hold as many; a longer one is compared in part."""

# Only those whose bytes differ: the same message again is what producers are asked for.
KEPT = """
SELECT m.n, i.source, i.key, i.value, i.headers
FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[])
     WITH ORDINALITY AS m(task_id, event_id, source, value, n)
CROSS JOIN LATERAL (
    SELECT i.source, i.key, i.value, i.headers FROM tasks t JOIN inbox i ON i.task = t.id
    WHERE t.task_id = m.task_id AND i.event_id = m.event_id
    UNION ALL
    SELECT i.source, i.key, i.value, i.headers FROM tasks t JOIN inbox i ON i.task = t.id
    WHERE t.task_id = m.task_id AND m.event_id IS NULL AND i.event_type = 'task'
    LIMIT 1
) AS i
WHERE i.source <> m.source AND i.value <> m.value
ORDER BY m.n
"""

TELL = """
INSERT INTO other_contents AS o (topic, number, task_id, event_id, source, kept)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[])
ORDER BY 1
ON CONFLICT (topic) DO UPDATE SET
    number = o.number + excluded.number, task_id = excluded.task_id, event_id = excluded.event_id,
    source = excluded.source, kept = excluded.kept, at = now()
"""

LATELY = "SELECT * FROM other_contents WHERE at > now() - $1::interval ORDER BY topic"


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherContents:
    """Of a topic: how many there were, and the last one."""

    topic: str
    number: int
    task_id: str
    event_id: str | None
    source: str
    kept: str
    """Where the message lay that came first, and counts."""
    at: datetime

    @property
    def name(self) -> str:
        """What the two messages share."""
        if self.event_id is None:
            return f"task_id {self.task_id!r}"
        return f"event_id {self.event_id!r} of task {self.task_id!r}"


async def kept_instead(
    database: Database, messages: Sequence[NewTask | NewEvent]
) -> list[tuple[NewTask | NewEvent, Origin]]:
    """Those of these messages of whose id another one is kept, with bytes that differ; and it."""
    known = [m for m in messages if isinstance(m, NewTask) or m.event_id is not None][:MAX_KEPT]
    rows = await database.fetch(
        KEPT,
        [m.task_id for m in known],
        [m.event_id if isinstance(m, NewEvent) else None for m in known],
        [m.origin.source for m in known],
        [m.origin.value for m in known],
    )
    return [(known[row["n"] - 1], _origin(row)) for row in rows]


async def tell(database: Database, found: Sequence[tuple[NewTask | NewEvent, Origin]]) -> None:
    """Keeps, for each topic, that there were so many more, and the last of them."""
    last = {message.origin.topic: (message, kept) for message, kept in found}
    numbers = [sum(m.origin.topic == topic for m, _ in found) for topic in last]
    messages = [message for message, _ in last.values()]
    await database.fetch(
        TELL,
        list(last),
        numbers,
        [m.task_id for m in messages],
        [m.event_id if isinstance(m, NewEvent) else None for m in messages],
        [m.origin.source for m in messages],
        [kept.source for _, kept in last.values()],
    )


async def lately(database: Database, *, within: timedelta) -> list[OtherContents]:
    """The topics of which there were some in this time."""
    return [OtherContents(**row) for row in await database.fetch(LATELY, within)]


def _origin(row: Any) -> Origin:
    topic, partition, offset = row["source"].rsplit("/", 2)
    return Origin(
        topic=topic,
        partition=int(partition),
        offset=int(offset),
        key=row["key"],
        value=row["value"],
        headers=tuple((name, value) for name, value in row["headers"] or ()),
    )
