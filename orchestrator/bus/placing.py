"""Where reading of a partition begins: PostgreSQL's position, checked against what Kafka has."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition

from orchestrator.bus.connection import answered_within, kafka_errors
from orchestrator.bus.gaps import Gap, find_gap
from orchestrator.bus.topic_ids import topic_ids
from orchestrator.store import positions
from orchestrator.store.database import Database
from orchestrator.store.positions import Position

TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Answers for some partitions."""

    at: dict[TopicPartition, int]
    gaps: dict[TopicPartition, Gap]
    topic_ids: Mapping[str, str]
    waiting: frozenset[TopicPartition]
    """Those of `at` where messages wait."""


async def find_places(
    database: Database,
    consumer: AIOKafkaConsumer,
    partitions: Iterable[TopicPartition],
    *,
    cluster_id: str,
) -> Places:
    """Each partition's position, or the gap that it lies in. New partitions begin at their start.

    Raises:
        StoreUnavailable, KafkaUnavailable: ask again later.
    """
    wanted = sorted(partitions)
    # First PostgreSQL's word, then Kafka's: the other way round, a position that another worker
    # moves meanwhile would seem to be beyond the end.
    known = await positions.read(database, cluster_id, wanted)
    with kafka_errors("ask for the partitions' offsets"):
        async with answered_within(consumer, TIMEOUT_SECONDS):
            ids = await topic_ids(consumer, {p.topic for p in wanted})
            begins = await consumer.beginning_offsets(wanted)
            ends = await consumer.end_offsets(wanted)
    new = {
        (p.topic, p.partition): Position(begins[p], ids.get(p.topic))
        for p in wanted
        if p not in known
    }
    if new:
        await positions.begin(database, cluster_id, new)
    at = {p: known.get(p) or new[p.topic, p.partition] for p in wanted}
    gaps = {
        p: gap
        for p in wanted
        if (gap := find_gap(p, at[p], log=(begins[p], ends[p]), topic_id=ids.get(p.topic)))
    }
    await _note_ids(database, cluster_id, {p: at[p] for p in wanted if p not in gaps}, ids)
    placed = {p: at[p].next_offset for p in wanted if p not in gaps}
    waiting = frozenset(p for p, position in placed.items() if position < ends[p])
    return Places(at=placed, gaps=gaps, topic_ids=ids, waiting=waiting)


async def _note_ids(
    database: Database,
    cluster_id: str,
    placed: Mapping[TopicPartition, Position],
    ids: Mapping[str, str],
) -> None:
    """Of positions that an earlier release or a person has set, or of which nothing was read."""
    unknown = {
        (p.topic, p.partition): (position.topic_id, topic_id)
        for p, position in placed.items()
        if (topic_id := ids.get(p.topic)) is not None and topic_id != position.topic_id
    }
    if unknown:
        await positions.identify(database, cluster_id, unknown)
