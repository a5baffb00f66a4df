"""Where reading of a partition begins: PostgreSQL's position, checked against what Kafka has."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition

from orchestrator.bus.connection import kafka_errors
from orchestrator.bus.gaps import Gap, find_gap
from orchestrator.store import positions
from orchestrator.store.database import Database

TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Answers for some partitions."""

    at: dict[TopicPartition, int]
    gaps: dict[TopicPartition, Gap]


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
        async with asyncio.timeout(TIMEOUT_SECONDS):
            begins = await consumer.beginning_offsets(wanted)
            ends = await consumer.end_offsets(wanted)
    new = {(p.topic, p.partition): begins[p] for p in wanted if p not in known}
    if new:
        await positions.begin(database, cluster_id, new)
    at = {p: known.get((p.topic, p.partition), begins[p]) for p in wanted}
    gaps = {
        p: gap
        for p in wanted
        if (gap := find_gap(p.topic, p.partition, position=at[p], begin=begins[p], end=ends[p]))
    }
    return Places(at={p: at[p] for p in wanted if p not in gaps}, gaps=gaps)
