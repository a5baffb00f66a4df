"""T6: outbox → Kafka, in order, by one process at a time.

Promise: every row is published at least once, with the same `id` each time, and of a task never a
later step before an earlier one.
"""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from aiokafka import AIOKafkaProducer

from orchestrator.bus.connection import kafka_errors
from orchestrator.bus.options import BusOptions
from orchestrator.bus.outgoing import Outgoing, encode
from orchestrator.bus.producer import ProducerLife
from orchestrator.bus.rest import rest
from orchestrator.bus.shipment import Shipped, ship
from orchestrator.bus.topics import ensure_topics
from orchestrator.domain.errors import InvalidSettings, KafkaUnavailable, StoreUnavailable
from orchestrator.domain.ids import WorkerId
from orchestrator.store import outbox, workers
from orchestrator.store.database import Database
from orchestrator.store.errors import RETRY_SECONDS
from orchestrator.telemetry import metrics
from orchestrator.telemetry.logs import get_logger
from orchestrator.telemetry.outage import Outage

log = get_logger(__name__)

ROLE = "relay"
ROWS = 500
ROWS_BYTES = 4 * 1024 * 1024
"""Of what is read at once; some times as much as JSON. A round sends one batch a partition."""
POLL_SECONDS = 1.0
MAX_PATIENCE = 4
"""Polls between two looks of the leader, where several found nothing and nobody gave notice."""
FOLLOWER_PATIENCE = 2
LEAD_SECONDS = 4.0
"""How often the lease is looked at; in between `is_alive` says whether it can be another's."""
SMALLEST_BYTES = 16 * 1024
TURN_SECONDS = 2.0
"""For the round under way at a stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who leads."""

    worker: Callable[[], WorkerId]
    is_alive: Callable[[], bool]
    """False as soon as others may take this worker for dead: nothing is sent then."""
    lease: timedelta = timedelta(seconds=8)


class Relay:
    """`run` until `stop`; one of the processes leads, the others look whether it still does."""

    def __init__(self, database: Database, options: BusOptions, *, identity: Identity) -> None:
        self._database = database
        self._options = options
        self._identity = identity
        self._life = ProducerLife(options)
        self._max_bytes = options.max_publish_bytes
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._kafka = Outage("Kafka", during="publishing")
        self._done: set[int] = set()
        """Rows that Kafka acknowledged, and that are still there."""
        self._postgres = Outage("PostgreSQL", during="publishing", max_delay_seconds=RETRY_SECONDS)
        self._turns_end: asyncio.Timeout | None = None
        self._leads_until = 0.0
        self._empty_looks = 0
        self.is_leader = False

    @property
    def problems(self) -> tuple[str, ...]:
        return tuple(r for r in (self._kafka.reason, self._postgres.reason) if r)

    def wake(self) -> None:
        """There may be rows."""
        self._wake.set()

    def stop(self) -> None:
        """Lets the turn under way end soon: of one that is broken off, rows may go out again."""
        self._stopping.set()
        if self._turns_end is not None:
            self._turns_end.reschedule(asyncio.get_running_loop().time() + TURN_SECONDS)

    async def run(self, *, grace_seconds: float = 5.0) -> None:
        """Returns after `stop`, when what was there then is published or the grace is over."""
        try:
            while not self._stopping.is_set():
                self._wake.clear()
                await self._turn_until_stopped()
            await self._flush(grace_seconds)
        finally:
            await self._life.close()

    async def run_once(self) -> int:
        """Publishes and removes one round of rows; answers how many, 0 where another leads.

        Raises:
            KafkaUnavailable, StoreUnavailable: what was not acknowledged stays.
            InvalidSettings: Kafka refuses.
        """
        if not await self._leads():
            return 0
        await self._remove()
        rows = await outbox.next_rows(self._database, ROWS, max_bytes=ROWS_BYTES)
        if not rows or not self._identity.is_alive():
            return 0
        messages = [m for row in rows for m in self._encode(row)]
        gone = {row.id for row in rows} - {m.row for m in messages}
        shipped = await self._ship(messages)
        done = shipped.rows | gone
        self._done |= done
        await self._remove()
        for topic, count in shipped.messages.items():
            metrics.PUBLISHED.labels(topic).inc(count)
        if shipped.errors:
            await self._failed(shipped)
        return len(done)

    async def _remove(self) -> None:
        """What is published; where that fails it is not published once more, but removed later."""
        if self._done:
            await outbox.delete(self._database, sorted(self._done))
            self._done.clear()

    async def _turn_until_stopped(self) -> None:
        try:
            async with asyncio.timeout(None) as self._turns_end:
                await self._turn()
        except TimeoutError:
            log.info("a round of the outbox was broken off")
        finally:
            self._turns_end = None

    async def _turn(self) -> None:
        try:
            published = await self.run_once()
        except (KafkaUnavailable, InvalidSettings) as error:
            await rest(self._kafka.failed(error), until=self._stopping)
        except StoreUnavailable as error:
            self._empty_looks = 0
            await rest(self._postgres.failed(error), until=self._stopping)
        else:
            self._postgres.is_over()
            if published:
                self._kafka.is_over()
                self._empty_looks = 0
            else:
                self._empty_looks += 1
                await self._idle()

    async def _idle(self) -> None:
        patience = MAX_PATIENCE if self.is_leader else FOLLOWER_PATIENCE
        seconds = POLL_SECONDS * min(self._empty_looks, patience)
        if not self._identity.is_alive():
            seconds = RETRY_SECONDS / 2  # rows may wait for the next heartbeat
        seconds *= random.uniform(0.5, 1.0)
        if not self.is_leader:
            # Whoever does not lead is woken as often as the leader, and has nothing to do.
            await rest(seconds, until=self._stopping)
            return
        wake = asyncio.ensure_future(self._wake.wait())
        stop = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({wake, stop}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            wake.cancel()
            stop.cancel()

    async def _leads(self) -> bool:
        now = time.monotonic()
        if self.is_leader and now < self._leads_until and self._identity.is_alive():
            return True
        was_leader = self.is_leader
        self.is_leader = await workers.lead(
            self._database, ROLE, self._identity.worker(), lease=self._identity.lease
        )
        self._leads_until = now + LEAD_SECONDS
        if self.is_leader and not was_leader:
            log.info("relay leads")
        return self.is_leader

    def _encode(self, row: outbox.OutboxRow) -> tuple[Outgoing, ...]:
        return tuple(encode(row, self._options, max_bytes=self._max_bytes))

    async def _ship(self, messages: list[Outgoing]) -> Shipped:
        nothing = Shipped(rows=frozenset(), messages={}, errors=())
        if not messages:
            return nothing
        producer = await self._producer()
        if not self._identity.is_alive():
            return nothing
        with kafka_errors("publish"):
            return await ship(
                producer,
                messages,
                max_bytes=self._max_bytes,
                patience_seconds=self._options.publish_timeout_seconds,
            )

    async def _producer(self) -> AIOKafkaProducer:
        if not self._life.is_open:
            await ensure_topics(self._options)
        return await self._life.current()

    async def _failed(self, shipped: Shipped) -> None:
        if shipped.was_too_large and self._max_bytes > SMALLEST_BYTES:
            self._max_bytes = max(SMALLEST_BYTES, self._max_bytes // 2)
            log.warning("Kafka refuses a batch as too large", max_bytes_now=self._max_bytes)
            return
        await self._life.replace()
        with kafka_errors("publish"):
            raise shipped.errors[0]

    async def _flush(self, grace_seconds: float) -> None:
        if not self._identity.is_alive():
            return  # others may lead by now, and PostgreSQL does not answer
        try:
            async with asyncio.timeout(grace_seconds):
                while await self.run_once():
                    pass
            if self.is_leader:
                await workers.resign(self._database, ROLE, self._identity.worker())
        except (TimeoutError, KafkaUnavailable, StoreUnavailable, InvalidSettings) as error:
            log.info("rows are left in the outbox", reason=str(error) or "no time left")
