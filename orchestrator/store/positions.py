"""Where reading of each Kafka partition goes on: PostgreSQL's word, of which Kafka's is a copy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
