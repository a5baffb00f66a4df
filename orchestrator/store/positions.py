"""Where reading of each Kafka partition goes on: PostgreSQL's word, of which Kafka's is a copy."""

from collections.abc import Mapping, Sequence

from orchestrator.store.database import Database

TopicPartition = tuple[str, int]

READ = """
SELECT topic, partition, next_offset FROM kafka_positions
WHERE cluster_id = $1 AND (topic, partition) IN (SELECT * FROM unnest($2::text[], $3::int[]))
"""

BEGIN = """
INSERT INTO kafka_positions (cluster_id, topic, partition, next_offset)
SELECT $1, * FROM unnest($2::text[], $3::int[], $4::bigint[])
ON CONFLICT DO NOTHING
"""

MOVE = """
UPDATE kafka_positions SET next_offset = $4, updated_at = now()
WHERE cluster_id = $1 AND topic = $2 AND partition = $3 AND next_offset = $5
RETURNING next_offset
"""


async def read(
    database: Database, cluster_id: str, partitions: Sequence[TopicPartition]
) -> dict[TopicPartition, int]:
    """The next offset of each partition that has been read before."""
    rows = await database.fetch(
        READ, cluster_id, [t for t, _ in partitions], [p for _, p in partitions]
    )
    return {(r["topic"], r["partition"]): r["next_offset"] for r in rows}


async def begin(database: Database, cluster_id: str, offsets: Mapping[TopicPartition, int]) -> None:
    """Records where reading of new partitions begins; one that is known keeps its place."""
    await database.fetch(
        BEGIN,
        cluster_id,
        [t for t, _ in offsets],
        [p for _, p in offsets],
        list(offsets.values()),
    )


async def move(
    database: Database, cluster_id: str, partition: TopicPartition, *, expected: int, to: int
) -> bool:
    """Sets a position by hand (past a gap); false when it was not where it should have been."""
    return bool(await database.fetch(MOVE, cluster_id, *partition, to, expected))
