"""Which service this database belongs to, and which Kafka partitions its workers read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import Any

from orchestrator.domain.errors import OrchestratorError
from orchestrator.domain.ids import WorkerId
from orchestrator.store.database import Database
from orchestrator.store.lineage import LINEAGE, UNTOLD
from orchestrator.store.positions import TopicPartition

IDENTITY = """
SELECT (SELECT id::text FROM service LIMIT 1) AS service,
       (SELECT oid::text FROM pg_database WHERE datname = current_database()) AS database
"""

TELL = """
WITH told AS (
    UPDATE workers SET intake = $2, intake_at = now()
    WHERE id = $1 AND intake IS DISTINCT FROM $2
)
SELECT id, intake FROM workers
"""

HAS_EARLIER = "SELECT EXISTS (SELECT FROM workers WHERE intake IS NULL) AS earlier"

# Nothing is said while a worker of an earlier release lives, which does not tell what it reads,
# and for a time ($2) after any worker got or lost a partition.
UNREAD = """
WITH living AS (
    SELECT intake, intake_at FROM workers WHERE heartbeat_at > now() - {lease}
), all_partitions AS (
    SELECT intake->>'cluster' AS cluster, key AS topic, max(value::int) AS partitions
    FROM living, jsonb_each_text(intake->'topics') GROUP BY 1, 2
)
SELECT a.topic || '/' || n AS example
FROM all_partitions a, generate_series(0, a.partitions - 1) n
WHERE NOT EXISTS (SELECT FROM living WHERE intake IS NULL OR intake_at > now() - {quiet})
  AND NOT EXISTS (SELECT FROM living l WHERE l.intake->>'cluster' = a.cluster
                  AND l.intake->'reads'->a.topic @> to_jsonb(n))
"""


PLACES = """
SELECT DISTINCT intake->>'cluster' AS cluster, intake->>'group' AS group_id FROM workers
WHERE heartbeat_at > now() - $1::interval AND intake ? 'cluster' ORDER BY 1, 2
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Of a database."""

    service: str
    """Stays the same in a copy, a restored backup and after a failover."""
    place: str
    """Differs between a database and each copy of it: only one of them may serve the topics."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """What one worker reads of Kafka, as it says in its row."""

    cluster: str
    group: str
    topics: Mapping[str, int]
    """The topics that it is to read, with their partitions."""
    reads: frozenset[TopicPartition]

    def to_json(self) -> dict[str, Any]:
        by_topic: dict[str, list[int]] = {topic: [] for topic in self.topics}
        for topic, partition in sorted(self.reads):
            by_topic.setdefault(topic, []).append(partition)
        return {
            "cluster": self.cluster,
            "group": self.group,
            "topics": dict(self.topics),
            "reads": by_topic,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Another worker's row."""

    id: WorkerId
    intake: Intake | None
    """None where its release does not say what it reads."""


async def identity(database: Database) -> Identity:
    """Whose database this is.

    A copy on another server differs by the server's own id, one on the same server by the
    database's, and one that became a primary of its own by its timeline.

    Raises:
        StoreUnavailable: ask again later.
    """
    row = await database.fetch_one(IDENTITY)
    assert row is not None
    parts = (row["service"], row["database"], await _lineage(database))
    place = sha256("/".join(parts).encode()).hexdigest()[:16]
    return Identity(service=row["service"], place=place)


async def _lineage(database: Database) -> str:
    try:
        row = await database.fetch_one(LINEAGE)
    except OrchestratorError as error:
        if isinstance(error.__cause__, UNTOLD):
            return ""
        raise
    return (row["lineage"] if row else None) or ""


async def has_earlier_releases(database: Database) -> bool:
    """Whether a worker is registered whose release does not say what it reads."""
    row = await database.fetch_one(HAS_EARLIER)
    assert row is not None
    return bool(row["earlier"])


async def tell(database: Database, worker: WorkerId, intake: Intake) -> list[Peer] | None:
    """Writes down what this worker reads; answers what the others do.

    None where the others gave this worker up: then it has no say.
    """
    rows = {r["id"]: r["intake"] for r in await database.fetch(TELL, worker, intake.to_json())}
    if worker not in rows:
        return None
    del rows[worker]
    return [Peer(id=WorkerId(id_), intake=_intake(said)) for id_, said in rows.items()]


def _intake(document: Mapping[str, Any] | None) -> Intake | None:
    if document is None:
        return None
    reads = document.get("reads", {})
    return Intake(
        cluster=document.get("cluster", ""),
        group=document.get("group", ""),
        topics=document.get("topics", {}),
        reads=frozenset((topic, n) for topic, numbers in reads.items() for n in numbers),
    )


async def unread(database: Database, *, lease: timedelta, quiet: timedelta) -> Sequence[str]:
    """Partitions, as `topic/partition`, that no living worker reads."""
    sql = UNREAD.format(lease="$1::interval", quiet="$2::interval")
    return [row["example"] for row in await database.fetch(sql, lease, quiet)]


async def places(database: Database, *, lease: timedelta) -> list[tuple[str, str]]:
    """The clusters and groups in which living workers read: one, unless their settings differ."""
    return [(r["cluster"], r["group_id"]) for r in await database.fetch(PLACES, lease)]
