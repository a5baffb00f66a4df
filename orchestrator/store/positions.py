"""Where reading of each Kafka partition goes on: PostgreSQL's word, of which Kafka's is a copy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from orchestrator.domain.ids import WorkerId
from orchestrator.store.database import Database

TopicPartition = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Position:
    """Where reading of a partition goes on."""

    next_offset: int
    topic_id: str | None = None
    """Kafka's id of the topic that the offset belongs to; None where nobody knows it yet."""


READ = """
SELECT topic, partition, next_offset, topic_id FROM kafka_positions
WHERE cluster_id = $1 AND (topic, partition) IN (SELECT * FROM unnest($2::text[], $3::int[]))
"""

BEGIN = """
INSERT INTO kafka_positions (cluster_id, topic, partition, next_offset, topic_id)
SELECT $1, * FROM unnest($2::text[], $3::int[], $4::bigint[], $5::text[])
ON CONFLICT DO NOTHING
"""

# The offset is of whichever topic bears the name by now: the next reader notes its id.
MOVE = """
UPDATE kafka_positions SET next_offset = $4, topic_id = NULL, updated_at = now()
WHERE cluster_id = $1 AND topic = $2 AND partition = $3 AND next_offset = $5
RETURNING next_offset
"""

IDENTIFY = """
UPDATE kafka_positions p SET topic_id = a.topic_id
FROM unnest($2::text[], $3::int[], $4::text[], $5::text[]) AS a(topic, partition, was, topic_id)
WHERE p.cluster_id = $1 AND p.topic = a.topic AND p.partition = a.partition
  AND p.topic_id IS NOT DISTINCT FROM a.was
"""


# Suspect is what a reader died at: who left well, or lives, or moved the position, proves nothing.
PLACE = """
WITH at AS (
    SELECT p.*, p.placed_offset = p.next_offset AND p.placed_by <> $4 AND NOT EXISTS (
        SELECT FROM workers w WHERE w.id = p.placed_by AND w.heartbeat_at > now() - $5::interval
    ) AS is_suspect
    FROM kafka_positions p
    JOIN unnest($2::text[], $3::int[]) AS a(topic, partition) USING (topic, partition)
    WHERE cluster_id = $1 ORDER BY topic, partition FOR UPDATE OF p
)
UPDATE kafka_positions p
SET placed_by = $4, placed_offset = p.next_offset,
    crashes = CASE WHEN at.placed_offset = at.next_offset THEN at.crashes ELSE 0 END,
    is_fetched = at.is_fetched AND at.placed_offset = at.next_offset
FROM at
WHERE p.cluster_id = at.cluster_id AND p.topic = at.topic AND p.partition = at.partition
RETURNING p.topic, p.partition, coalesce(at.is_suspect, false) AS is_suspect
"""

LEFT = """
UPDATE kafka_positions SET placed_by = NULL
WHERE cluster_id = $1 AND placed_by = $4
  AND (topic, partition) IN (SELECT * FROM unnest($2::text[], $3::int[]))
"""

MARK = """
UPDATE kafka_positions
SET placed_offset = next_offset,
    crashes = CASE WHEN placed_offset = next_offset THEN crashes + 1 ELSE 1 END,
    is_fetched = is_fetched AND placed_offset = next_offset
WHERE cluster_id = $1 AND topic = $2 AND partition = $3 AND next_offset = $4
RETURNING crashes, is_fetched
"""

FETCHED = """
UPDATE kafka_positions SET is_fetched = true
WHERE cluster_id = $1 AND topic = $2 AND partition = $3 AND next_offset = $4
"""

CLEARED = """
UPDATE kafka_positions SET crashes = 0, is_fetched = false
WHERE cluster_id = $1 AND topic = $2 AND partition = $3 AND next_offset = $4
"""


async def read(
    database: Database, cluster_id: str, partitions: Sequence[TopicPartition]
) -> dict[TopicPartition, Position]:
    """The positions of the partitions that have been read before."""
    rows = await database.fetch(
        READ, cluster_id, [t for t, _ in partitions], [p for _, p in partitions]
    )
    return {(r["topic"], r["partition"]): Position(r["next_offset"], r["topic_id"]) for r in rows}


async def begin(
    database: Database, cluster_id: str, new: Mapping[TopicPartition, Position]
) -> None:
    """Records where reading of new partitions begins; one that is known keeps its place."""
    await database.fetch(
        BEGIN,
        cluster_id,
        [t for t, _ in new],
        [p for _, p in new],
        [position.next_offset for position in new.values()],
        [position.topic_id for position in new.values()],
    )


async def identify(
    database: Database, cluster_id: str, ids: Mapping[TopicPartition, tuple[str | None, str]]
) -> None:
    """Records which topic each offset belongs to; nothing where the former id is another."""
    await database.fetch(
        IDENTIFY,
        cluster_id,
        [t for t, _ in ids],
        [p for _, p in ids],
        [was for was, _ in ids.values()],
        [topic_id for _, topic_id in ids.values()],
    )


async def move(
    database: Database, cluster_id: str, partition: TopicPartition, *, expected: int, to: int
) -> bool:
    """Sets a position by hand (past a gap); false when it was not where it should have been."""
    return bool(await database.fetch(MOVE, cluster_id, *partition, to, expected))


async def place(
    database: Database,
    cluster_id: str,
    partitions: Sequence[TopicPartition],
    *,
    worker: WorkerId,
    silence: timedelta,
) -> frozenset[TopicPartition]:
    """Notes who reads these partitions from now on.

    Answers those whose last reader has been silent for so long, and died before it moved the
    position at which it began: what is there may be what killed it.
    """
    topics, numbers = [t for t, _ in partitions], [p for _, p in partitions]
    rows = await database.fetch(PLACE, cluster_id, topics, numbers, worker, silence)
    return frozenset((r["topic"], r["partition"]) for r in rows if r["is_suspect"])


async def leave(
    database: Database, cluster_id: str, partitions: Sequence[TopicPartition], *, worker: WorkerId
) -> None:
    """Notes that this reader of the partitions ended well."""
    topics, numbers = [t for t, _ in partitions], [p for _, p in partitions]
    await database.fetch(LEFT, cluster_id, topics, numbers, worker)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """To read the messages at a suspect position."""

    number: int
    """1 for the first: all but this one ended with the death of the reader."""
    was_fetched: bool
    """Whether one of them came as far as to have the messages."""


async def mark(
    database: Database, cluster_id: str, partition: TopicPartition, position: int
) -> Attempt | None:
    """Counts an attempt before it begins; None where the position is another's by now."""
    row = await database.fetch_one(MARK, cluster_id, *partition, position)
    if row is None:
        return None
    return Attempt(number=row["crashes"], was_fetched=row["is_fetched"])


async def mark_fetched(
    database: Database, cluster_id: str, partition: TopicPartition, position: int
) -> None:
    """Notes that the messages could be fetched and decompressed."""
    await database.fetch(FETCHED, cluster_id, *partition, position)


async def clear(
    database: Database, cluster_id: str, partition: TopicPartition, position: int
) -> None:
    """Forgets the attempts: this one was survived."""
    await database.fetch(CLEARED, cluster_id, *partition, position)
