"""One life of a consumer in its group: place, poll, write, move on.

What was read is written before more is handed on, and a partition's position follows what was
written, never what was read: after any doubt, reading goes back to the position.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress

from aiokafka import AIOKafkaConsumer, TopicPartition

from orchestrator.bus.damaged import damaged_batch
from orchestrator.bus.gaps import Gap, damage_letter, gap_letter
from orchestrator.bus.group import Group
from orchestrator.bus.ingest import Engine, Ingest
from orchestrator.bus.intake import Part, Reader
from orchestrator.bus.mirror import Mirror
from orchestrator.bus.options import BusOptions
from orchestrator.bus.placing import find_places
from orchestrator.bus.polling import Damage, Polling, crash_at
from orchestrator.bus.readers import Readers
from orchestrator.bus.reading import Reading
from orchestrator.bus.rebalance import Assignment
from orchestrator.bus.rest import rest
from orchestrator.bus.suspects import MAX_CRASHES, Suspects
from orchestrator.bus.topic_ids import KnownTopics
from orchestrator.bus.watch import Watch
from orchestrator.domain.errors import KafkaUnavailable, OrchestratorError, StoreUnavailable
from orchestrator.store import positions
from orchestrator.store.database import Database
from orchestrator.store.errors import RETRY_SECONDS
from orchestrator.store.ingest import Origin
from orchestrator.store.positions import TopicPartition as Place
from orchestrator.telemetry import metrics
from orchestrator.telemetry.logs import get_logger
from orchestrator.telemetry.outage import Outage

log = get_logger(__name__)

POLL_MS, UNSETTLED_POLL_MS = 200, 20
"""How long a poll waits: for messages alone; while something else waits too."""
GAP_RECHECK_SECONDS = 5.0
SILENT_SECONDS = 5.0
"""Fetches without an answer for ten times as long as Kafka holds one say that it is away."""


class Session:
    """Everything between joining the group and leaving it; `step` is one turn of its loop."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        *,
        database: Database,
        options: BusOptions,
        engine: Engine,
        group: Group,
        stopping: asyncio.Event,
    ) -> None:
        self._consumer = consumer
        self._database = database
        self._options = options
        self._engine = engine
        self._cluster_id = cluster_id = group.cluster_id
        self._stopping = stopping
        self._reader = Reader(options, cluster_id=cluster_id)
        self._ingest = Ingest(database, options, engine=engine, reader=self._reader)
        self.assignment = Assignment(consumer)
        self._polling = Polling(
            consumer,
            self.assignment,
            batch_messages=options.batch_messages,
            batch_bytes=options.batch_bytes,
            patience_seconds=options.stalled_after_seconds,
            stopping=stopping,
        )
        self._suspects = Suspects(database, options, engine=engine, cluster_id=cluster_id)
        self._reading = Reading(consumer, self.assignment, reader=self._reader)
        self._mirror = Mirror(consumer, mark=group.mark)
        self.readers = Readers(
            consumer,
            self.assignment,
            database=database,
            options=options,
            engine=engine,
            group=group,
        )
        self._topics = KnownTopics(consumer, cluster_id=cluster_id)
        self._watch = Watch(consumer, self.assignment, options)
        self.postgres = Outage("PostgreSQL", during="intake", max_delay_seconds=RETRY_SECONDS)
        self.brokers = Outage("Kafka", during="intake")
        self.fetches = Outage("Kafka", during="intake")
        self._paused = False
        self._place_after = 0.0
        self._gaps_checked = 0.0
        self._partitions: dict[str, int] = {}
        """Of each topic, as this member knew it last."""
        self._told: set[tuple[TopicPartition, int]] = set()
        """Gaps of which a letter was written by this life."""

    async def step(self) -> None:
        """One turn.

        Raises:
            KafkaUnavailable: this consumer is of no more use.
            InvalidSettings: Kafka does not allow what has to be done.
        """
        self._notice_growth()
        await self._settle()
        self._apply_pressure()
        suspect = None if self._paused else self._suspects.first(self.assignment.positions)
        if suspect is not None:
            await self._read_with_care(suspect)
        else:
            await self._read_all()
        self._mirror.tick()
        self._listen()
        await self.readers.look()
        await self._watch.check(is_paused=self._paused)

    async def _read_all(self) -> None:
        generation = self.assignment.generation
        is_settled = not self.assignment.unplaced and not self._paused
        polled = await self._polling.poll(timeout_ms=POLL_MS if is_settled else UNSETTLED_POLL_MS)
        # Partitions that were revoked meanwhile are another's to write.
        if generation == self.assignment.generation:
            if isinstance(polled, Damage):
                await self._pass_over(polled)
            else:
                parts = await self._reading.parts(polled)
                if generation == self.assignment.generation:
                    await self._write(parts)

    async def close(self) -> None:
        """Commits the last offsets; leaving the group is the consumer's own."""
        self._watch.close()
        self.readers.close()
        if self._stopping.is_set():  # whatever else ends a session may have killed its worker
            await self._suspects.close(self.assignment.positions)
        await self._mirror.close()

    # What waits beside the messages: partitions without a place, gaps, pressure.

    async def _settle(self) -> None:
        self._recheck_gaps()
        await self._recheck_topics()
        if not self.assignment.unplaced or time.monotonic() < self._place_after:
            return
        try:
            await self._place()
        except StoreUnavailable as error:
            self._place_after = time.monotonic() + self.postgres.failed(error)
        except KafkaUnavailable as error:
            self._place_after = time.monotonic() + self.brokers.failed(error)
        else:
            self.postgres.is_over()
            self.brokers.is_over()

    async def _place(self) -> None:
        generation = self.assignment.generation
        places = await find_places(
            self._database,
            self._consumer,
            self.assignment.unplaced,
            cluster_id=self._cluster_id,
        )
        await self._suspects.place(places.at, waiting=places.waiting)
        if generation != self.assignment.generation:
            return
        self._topics.note(places.topic_ids)
        for partition, position in places.at.items():
            self.assignment.place(partition, position, paused=self._paused)
            metrics.KAFKA_GAP.labels(*partition).set(0)
        self._mirror.note(places.at)
        for partition, gap in places.gaps.items():
            await self._meet(partition, gap, generation=generation)

    async def _meet(self, partition: TopicPartition, gap: Gap, *, generation: int) -> None:
        goes_on = self._options.on_gap == "continue"
        if goes_on or (partition, gap.position) not in self._told:
            await self._tell(partition, gap, goes_on=goes_on)
        if generation != self.assignment.generation:
            return
        if goes_on:
            self.assignment.place(partition, gap.continue_at, paused=self._paused)
        else:
            self.assignment.stop_at(partition, gap)
        metrics.KAFKA_GAP.labels(*partition).set(0 if goes_on else 1)

    async def _tell(self, partition: TopicPartition, gap: Gap, *, goes_on: bool) -> None:
        """Writes the gap's letter and, where reading goes on, the position behind it."""
        then = f"reading goes on at {gap.continue_at}" if goes_on else "standing still"
        part = Part(
            topic=gap.topic,
            partition=gap.partition,
            expected=gap.position,
            next_offset=gap.continue_at if goes_on else gap.position,
            items=(gap_letter(gap, station=self._reader.station),),
        )
        await self._ingest.write([part], cluster_id=self._cluster_id)
        if goes_on and gap.made_anew is not None:
            # After the position: in between, the gap would be met and told of once more.
            place = {(gap.topic, gap.partition): gap.made_anew}
            await positions.identify(self._database, self._cluster_id, place)
        self._told.add((partition, gap.position))
        log.error("gap", what=gap.text, then=then)

    def _recheck_gaps(self) -> None:
        """A person may have moved the position meanwhile."""
        now = time.monotonic()
        if self.assignment.gaps and now - self._gaps_checked > GAP_RECHECK_SECONDS:
            self._gaps_checked = now
            self.assignment.unplace(list(self.assignment.gaps))

    async def _recheck_topics(self) -> None:
        """Without a rebalance nobody tells us that a topic is not the one it was."""
        anew = await self._topics.made_anew()
        if anew:
            placed = self.assignment.positions
            self.assignment.unplace([p for p in list(placed) if p.topic in anew])

    def _notice_growth(self) -> None:
        """A topic has more partitions: joins again, for the group to share them out.

        aiokafka looks for them where it leads the group. A leader that is back under its name still
        leads it, and is not told so.
        """
        topics = self._options.topics.inputs
        known = {t: len(self._consumer.partitions_for_topic(t) or ()) for t in topics}
        has_grown = any(known[t] > self._partitions.get(t, known[t]) for t in topics)
        self._partitions |= {t: count for t, count in known.items() if count}
        if has_grown:
            self.readers.join_again()

    def _listen(self) -> None:
        silent = self._watch.silence_seconds(is_paused=self._paused)
        if silent > SILENT_SECONDS:
            self.fetches.failed(KafkaUnavailable(f"Kafka: no answer for {silent:.0f} s"))
        else:
            self.fetches.is_over()

    def _apply_pressure(self) -> None:
        wanted = self._engine.reject_more()
        if wanted == self._paused:
            return
        self._paused = wanted
        metrics.INTAKE_PAUSED.set(wanted)
        if wanted:
            self.assignment.pause_all()
        else:
            self.assignment.resume_all()

    # What may have killed the last reader.

    async def _read_with_care(self, partition: TopicPartition) -> None:
        position = self.assignment.positions[partition]
        try:
            await self._attempt(partition, position)
        except OrchestratorError as error:
            # The servers or their settings: this process lives, or ends without having died of it.
            with suppress(OrchestratorError):
                await self._suspects.forgive(partition, position)
            if not isinstance(error, StoreUnavailable):
                raise
            await self._hold(self.postgres.failed(error))

    async def _attempt(self, partition: TopicPartition, position: int) -> None:
        generation = self.assignment.generation
        attempt = await self._suspects.begin(partition, position)
        if attempt is None:
            self.assignment.unplace([partition])
            return
        is_given_up = attempt.number > MAX_CRASHES
        if is_given_up and not attempt.was_fetched:
            await self._pass_over(crash_at(partition, position))
            if self.assignment.positions.get(partition) != position:
                await self._suspects.survived(partition, position, is_over=True)
            return
        is_singly = self._suspects.is_singly(partition)
        records = await self._polling.poll_one(partition, max_records=1 if is_singly else None)
        if is_singly and records:
            await self._suspects.fetched(partition, position)
        if generation == self.assignment.generation:
            found = records.get(partition, ())
            parts = await self._reading.part(partition, found, unread=is_given_up)
            if generation == self.assignment.generation:
                await self._write(parts)
        is_over = is_given_up or not is_singly or not records
        await self._suspects.survived(partition, position, is_over=is_over)

    # From records to rows.

    async def _pass_over(self, damage: Damage) -> None:
        """Skips a batch that can't be decoded; its raw bytes become a dead letter."""
        partition, position = damage.partition, damage.position
        try:
            batch = await damaged_batch(self._options, partition, position)
        except KafkaUnavailable as error:
            await rest(self.brokers.failed(error), until=self._stopping)
            return
        self.brokers.is_over()
        origin = Origin(
            topic=partition.topic, partition=partition.partition, offset=position, value=batch.raw
        )
        letter = damage_letter(
            origin,
            next_offset=batch.next_offset,
            error=damage.error,
            reason=damage.reason,
            station=self._reader.station,
        )
        part = Part(
            topic=partition.topic,
            partition=partition.partition,
            expected=position,
            next_offset=batch.next_offset,
            items=(letter,),
        )
        await self._write([part])
        self.assignment.seek_all()

    async def _write(self, parts: Sequence[Part]) -> None:
        if not parts:
            return
        generation = self.assignment.generation
        moved = await self._write_for_sure(parts)
        if moved is None:
            return
        if generation == self.assignment.generation:
            self._advance(parts, moved)
        if self.postgres.reason is not None:
            self.postgres.is_over()
            self.assignment.seek_all()
            if not self._paused:
                self.assignment.resume_all()

    def _advance(self, parts: Sequence[Part], moved: frozenset[Place]) -> None:
        done = {
            TopicPartition(p.topic, p.partition): p.next_offset
            for p in parts
            if (p.topic, p.partition) in moved
        }
        self.assignment.moved(done)
        self._mirror.note(done)
        self._watch.progressed(done)
        lost = {TopicPartition(p.topic, p.partition) for p in parts} - done.keys()
        if lost:
            names = sorted(f"{p.topic}/{p.partition}" for p in lost)
            log.info("another worker moved the position", partitions=names)
            self.assignment.unplace(lost)

    async def _write_for_sure(self, parts: Sequence[Part]) -> frozenset[Place] | None:
        """Tries until PostgreSQL answers; None where we are to stop before it does."""
        while True:
            try:
                return await self._ingest.write(parts, cluster_id=self._cluster_id)
            except StoreUnavailable as error:
                await self._hold(self.postgres.failed(error))
                if self._stopping.is_set():
                    return None

    async def _hold(self, seconds: float) -> None:
        """Waits with all partitions paused."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self._stopping.is_set():
            self.assignment.pause_all()
            await self._polling.keep_membership(timeout_ms=UNSETTLED_POLL_MS)
