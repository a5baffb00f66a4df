"""One life of a consumer in its group: place, poll, write, move on.

What was read is written before more is handed on, and a partition's position follows what was
written, never what was read: after any doubt, reading goes back to the position.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka import errors as kafka
from aiokafka.structs import ConsumerRecord

from orchestrator.bus.connection import PERMISSION_ERRORS, kafka_errors
from orchestrator.bus.damaged import UNREADABLE, damaged_batch
from orchestrator.bus.gaps import Gap, damage_letter, gap_letter
from orchestrator.bus.ingest import Engine, Ingest
from orchestrator.bus.intake import Part, Reader
from orchestrator.bus.mirror import Mirror
from orchestrator.bus.options import BusOptions
from orchestrator.bus.outage import Outage, rest
from orchestrator.bus.placing import find_places
from orchestrator.bus.rebalance import Assignment
from orchestrator.bus.watch import Watch
from orchestrator.domain.errors import KafkaUnavailable, StoreUnavailable
from orchestrator.store.database import Database
from orchestrator.store.ingest import Origin
from orchestrator.store.positions import TopicPartition as Place
from orchestrator.telemetry import metrics
from orchestrator.telemetry.logs import get_logger

log = get_logger(__name__)

Records = Mapping[TopicPartition, Sequence[ConsumerRecord]]

POLL_MS, UNSETTLED_POLL_MS, CAREFUL_POLL_MS = 200, 20, 500
"""How long a poll waits: for messages; while something else waits too; for one partition."""
MAX_FAILURES = 3
"""Polls in a row that may fail before the consumer is built anew, or a batch is skipped."""
GAP_RECHECK_SECONDS = 5.0


class Session:
    """Everything between joining the group and leaving it; `step` is one turn of its loop."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        *,
        database: Database,
        options: BusOptions,
        engine: Engine,
        cluster_id: str,
        stopping: asyncio.Event,
    ) -> None:
        self._consumer = consumer
        self._database = database
        self._options = options
        self._engine = engine
        self._cluster_id = cluster_id
        self._stopping = stopping
        self._reader = Reader(options, cluster_id=cluster_id)
        self._ingest = Ingest(database, options, engine=engine, reader=self._reader)
        self.assignment = Assignment(consumer)
        self._mirror = Mirror(consumer)
        self._watch = Watch(consumer, self.assignment, options)
        self.postgres = Outage("PostgreSQL", during="intake")
        self.brokers = Outage("Kafka", during="intake")
        self._paused = False
        self._failures = 0
        self._place_after = 0.0
        self._gaps_checked = 0.0
        self._told: set[tuple[TopicPartition, int]] = set()
        """Gaps of which a letter was written by this life."""
        self._careful: list[TopicPartition] = []
        """Partitions that are yet to be read alone, because one of them can't be decoded."""
        self._damaged: Counter[tuple[TopicPartition, int]] = Counter()

    async def step(self) -> None:
        """One turn.

        Raises:
            KafkaUnavailable: this consumer is of no more use.
            InvalidSettings: Kafka does not allow what has to be done.
        """
        await self._settle()
        self._apply_pressure()
        generation = self.assignment.generation
        records = await (self._poll_one_partition() if self._careful else self._poll_all())
        if generation == self.assignment.generation:
            parts = await self._parts(records)
            if parts:
                await self._write(parts)
        self._mirror.tick()
        await self._watch.check(is_paused=self._paused)

    async def close(self) -> None:
        """Commits the last offsets; leaving the group is the consumer's own."""
        await self._mirror.close()
        self._watch.close()

    # What waits beside the messages: partitions without a place, gaps, pressure.

    async def _settle(self) -> None:
        self._recheck_gaps()
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
        if generation != self.assignment.generation:
            return
        for partition, position in places.at.items():
            self.assignment.place(partition, position, paused=self._paused)
        for partition, gap in places.gaps.items():
            await self._meet(partition, gap, generation=generation)

    async def _meet(self, partition: TopicPartition, gap: Gap, *, generation: int) -> None:
        goes_on = self._options.on_gap == "continue"
        if goes_on or (partition, gap.position) not in self._told:
            self._told.add((partition, gap.position))
            log.error(
                "gap",
                what=gap.text,
                then=f"reading goes on at {gap.continue_at}" if goes_on else "standing still",
            )
            part = Part(
                topic=gap.topic,
                partition=gap.partition,
                expected=gap.position,
                next_offset=gap.continue_at if goes_on else gap.position,
                items=(gap_letter(gap, station=self._reader.station),),
            )
            await self._ingest.write([part], cluster_id=self._cluster_id)
        if generation != self.assignment.generation:
            return
        if goes_on:
            self.assignment.place(partition, gap.continue_at, paused=self._paused)
        else:
            self.assignment.stop_at(partition, gap)
        metrics.KAFKA_GAP.labels(*partition).set(0 if goes_on else 1)

    def _recheck_gaps(self) -> None:
        """A person may have moved the position meanwhile."""
        now = time.monotonic()
        if self.assignment.gaps and now - self._gaps_checked > GAP_RECHECK_SECONDS:
            self._gaps_checked = now
            self.assignment.unplace(list(self.assignment.gaps))

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

    # Reading.

    async def _poll_all(self) -> Records:
        is_settled = not self.assignment.unplaced and not self._paused
        try:
            records = await self._getmany(timeout_ms=POLL_MS if is_settled else UNSETTLED_POLL_MS)
        except UNREADABLE as error:
            log.warning("unreadable_batch", error=repr(error))
            self._careful = sorted(self.assignment.positions)
            self.assignment.seek_all()
        except kafka.KafkaError as error:
            await self._poll_failed(error)
        else:
            self._failures = 0
            return records
        return {}

    async def _poll_failed(self, error: kafka.KafkaError) -> None:
        if isinstance(error, kafka.NoOffsetForPartitionError):
            return  # asked before the listener could say where to read
        if isinstance(error, PERMISSION_ERRORS):
            with kafka_errors("read the topics"):
                raise error
        self._failures += 1
        if self._failures >= MAX_FAILURES:
            raise KafkaUnavailable(f"Kafka: polling failed {MAX_FAILURES} times: {error!r}")
        if isinstance(error, kafka.OffsetOutOfRangeError):
            self.assignment.unplace(error.args[0])
        # aiokafka may have taken messages of other partitions out of its buffer before it raised.
        self.assignment.seek_all()
        await rest(0.1 * self._failures, until=self._stopping)

    async def _poll_one_partition(self) -> Records:
        """Reads one partition message by message, up to what can't be decoded."""
        partition = self._careful.pop(0)
        if partition not in self.assignment.positions:
            return {}
        records: list[ConsumerRecord] = []
        try:
            while len(records) < self._options.batch_messages:
                got = await self._getmany(
                    partition, timeout_ms=0 if records else CAREFUL_POLL_MS, max_records=1
                )
                if not got:
                    break
                records += got[partition]
        except UNREADABLE as error:
            self.assignment.seek_all()
            self._careful.append(partition)
            if not records:
                await self._meet_damage(partition, repr(error))
        except kafka.KafkaError as error:
            await self._poll_failed(error)
        return {partition: records} if records else {}

    async def _meet_damage(self, partition: TopicPartition, error: str) -> None:
        position = self.assignment.positions[partition]
        self._damaged[partition, position] += 1
        if self._damaged[partition, position] < MAX_FAILURES:
            return
        try:
            batch = await damaged_batch(self._options, partition, position)
        except KafkaUnavailable as unavailable:
            await rest(self.brokers.failed(unavailable), until=self._stopping)
            return
        self.brokers.is_over()
        origin = Origin(
            topic=partition.topic, partition=partition.partition, offset=position, value=batch.raw
        )
        letter = damage_letter(
            origin,
            next_offset=batch.next_offset,
            error=error,
            station=self._reader.station,
        )
        log.error("messages_skipped", what=letter.headers[2][1])
        part = Part(
            topic=partition.topic,
            partition=partition.partition,
            expected=position,
            next_offset=batch.next_offset,
            items=(letter,),
        )
        await self._write([part])
        self.assignment.seek_all()

    async def _getmany(
        self, *partitions: TopicPartition, timeout_ms: int, max_records: int | None = None
    ) -> Records:
        """aiokafka's, ended by a stop: it waits without limit while the group rebalances."""
        poll = asyncio.ensure_future(
            self._consumer.getmany(*partitions, timeout_ms=timeout_ms, max_records=max_records)
        )
        stop = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({poll, stop}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
            poll.cancel()  # does nothing where it is done
        if not poll.done():
            await asyncio.wait({poll})
        records: Records = {} if poll.cancelled() else poll.result()
        return records

    async def _parts(self, records: Records) -> list[Part]:
        """What to write: of each placed partition its messages, and how far it is read.

        Also without messages: markers of transactions are passed without being handed out.
        """
        parts = []
        for partition, position in list(self.assignment.positions.items()):
            found = records.get(partition, ())
            reached = await self._position(partition, default=position)
            last = found[-1].offset + 1 if found else position
            next_offset = max(last, reached)
            if next_offset > position:
                parts.append(
                    Part(
                        topic=partition.topic,
                        partition=partition.partition,
                        expected=position,
                        next_offset=next_offset,
                        items=tuple(self._reader.read(record) for record in found),
                    )
                )
        return parts

    async def _position(self, partition: TopicPartition, *, default: int) -> int:
        try:
            position: int = await self._consumer.position(partition)
        except kafka.IllegalStateError:
            return default
        return position

    # Writing.

    async def _write(self, parts: Sequence[Part]) -> None:
        generation = self.assignment.generation
        moved = await self._write_for_sure(parts)
        if moved is None:
            return
        if generation != self.assignment.generation:
            self.postgres.is_over()
            return
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
            log.info("position_moved_by_another", partitions=sorted(map(_name, lost)))
            self.assignment.unplace(lost)
        if self.postgres.reason is not None:
            self._go_on()

    def _go_on(self) -> None:
        self.postgres.is_over()
        self.assignment.seek_all()
        if not self._paused:
            self.assignment.resume_all()

    async def _write_for_sure(self, parts: Sequence[Part]) -> frozenset[Place] | None:
        """Tries until PostgreSQL answers; None where we are to stop before it does."""
        while True:
            try:
                moved = await self._ingest.write(parts, cluster_id=self._cluster_id)
            except StoreUnavailable as error:
                await self._hold(self.postgres.failed(error))
                if self._stopping.is_set():
                    return None
            else:
                return moved

    async def _hold(self, seconds: float) -> None:
        """Waits with all paused, but polls: who does not poll is put out of the group."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self._stopping.is_set():
            self.assignment.pause_all()
            try:
                await self._getmany(timeout_ms=UNSETTLED_POLL_MS)
            except (kafka.KafkaError, *UNREADABLE):
                await rest(UNSETTLED_POLL_MS / 1000, until=self._stopping)


def _name(partition: TopicPartition) -> str:
    return f"{partition.topic}/{partition.partition}"
