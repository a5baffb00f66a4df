"""T6: outbox → Kafka, in order, by one process at a time.

Promise: every row is published at least once, with the same `id` each time, and of a task never a
later step before an earlier one. A topic that takes nothing delays no other topic.
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from datetime import timedelta

from orchestrator.bus.options import BusOptions
from orchestrator.bus.rest import rest
from orchestrator.bus.topic_queue import TopicQueue
from orchestrator.domain.errors import StoreUnavailable
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
BESIDE_SECONDS = 0.2
"""How long a round is waited for; one that takes longer goes on beside those of other topics."""
COUNT_SECONDS = 60.0
"""Between two counts of what is set aside."""
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
        self._queues: dict[str, TopicQueue] = {}
        self._under_way: dict[str, asyncio.Task[int]] = {}
        """The rounds of the topics that are not done; of each topic one at a time."""
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._postgres = Outage("PostgreSQL", during="publishing", max_delay_seconds=RETRY_SECONDS)
        self._turns_end: asyncio.Timeout | None = None
        self._leads_until = 0.0
        self._empty_looks = 0
        self._counted = -COUNT_SECONDS
        self.is_leader = False

    @property
    def problems(self) -> tuple[str, ...]:
        of_topics = (queue.problem for queue in self._queues.values() if self.is_leader)
        return tuple(r for r in (*of_topics, self._postgres.reason) if r)

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
            await self._close()

    async def run_once(self) -> int:
        """Publishes and removes one round of rows; answers how many, 0 where another leads.

        Rows that a topic does not take stay, and so do those behind them of that topic.

        Raises:
            StoreUnavailable: some may have been sent, and will be again.
        """
        if not await self._leads():
            return 0
        self._end_rounds()
        rows = await self._next_rows()
        if not rows or not self._identity.is_alive():
            return 0
        by_topic: dict[str, list[outbox.OutboxRow]] = {}
        for row in rows:
            by_topic.setdefault(self._topic_of(row), []).append(row)
        for topic, part in by_topic.items():
            round_ = self._queue(topic).publish(part)
            self._under_way[topic] = asyncio.create_task(round_, name=f"publish to {topic}")
        return await self._done_of([self._under_way[topic] for topic in by_topic])

    async def _done_of(self, rounds: Sequence[asyncio.Task[int]]) -> int:
        """How many rows are gone, as far as the rounds do not keep the others waiting."""
        done, slow = await asyncio.wait(rounds, timeout=BESIDE_SECONDS)
        for round_ in slow:
            round_.add_done_callback(lambda _: self._wake.set())
        self._under_way = {t: r for t, r in self._under_way.items() if r not in done}
        errors = [error for round_ in done if (error := round_.exception())]
        if errors:
            raise errors[0]
        return sum(round_.result() for round_ in done)

    def _end_rounds(self) -> None:
        """Takes note of rounds that went on beside others."""
        for topic, round_ in list(self._under_way.items()):
            if round_.done():
                del self._under_way[topic]
                round_.result()

    async def _next_rows(self) -> Sequence[outbox.OutboxRow]:
        """In one look while every topic goes on; else each topic that does is asked for alone."""
        busy = {t for t, q in self._queues.items() if t in self._under_way or q.rest_seconds}
        rows = await self._rows_without(busy)
        if not rows:
            for topic in self._queues.keys() - busy:
                self._queues[topic].nothing_waits()
        return rows

    async def _rows_without(self, busy: Set[str]) -> Sequence[outbox.OutboxRow]:
        if not busy:
            return await outbox.next_rows(self._database, ROWS, max_bytes=ROWS_BYTES)
        updates = self._options.topics.task_updates
        topics = {updates, self._options.topics.dead_letters, *self._queues} - busy
        rows: list[outbox.OutboxRow] = []
        for topic in sorted(topics):
            queue = None if topic == updates else topic
            rows += await outbox.next_rows(self._database, ROWS, max_bytes=ROWS_BYTES, queue=queue)
        return rows

    def _topic_of(self, row: outbox.OutboxRow) -> str:
        return row.topic if isinstance(row, outbox.Letter) else self._options.topics.task_updates

    def _queue(self, topic: str) -> TopicQueue:
        queue = self._queues.get(topic)
        if queue is None:
            queue = self._queues[topic] = TopicQueue(
                topic,
                database=self._database,
                options=self._options,
                is_alive=self._identity.is_alive,
            )
        return queue

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
            await self._count_refused()
        except StoreUnavailable as error:
            self._empty_looks = 0
            await rest(self._postgres.failed(error), until=self._stopping)
        else:
            self._postgres.is_over()
            if published:
                self._empty_looks = 0
            else:
                self._empty_looks += 1
                await self._idle()

    async def _count_refused(self) -> None:
        now = time.monotonic()
        if self.is_leader and now - self._counted > COUNT_SECONDS:
            self._counted = now
            metrics.OUTBOX_REFUSED.set(await outbox.count_refused(self._database))

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
        rests = [q.rest_seconds for q in self._queues.values() if q.rest_seconds]
        seconds = min([seconds, *rests])
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
        elif was_leader and not self.is_leader:
            metrics.OUTBOX_REFUSED.set(0)  # another counts
        return self.is_leader

    async def _flush(self, grace_seconds: float) -> None:
        if not self._identity.is_alive():
            return  # others may lead by now, and PostgreSQL does not answer
        for queue in self._queues.values():
            queue.try_now()
        try:
            async with asyncio.timeout(grace_seconds):
                while await self.run_once() or self._under_way:
                    if self._under_way:
                        await asyncio.wait(self._under_way.values())
            if self.is_leader:
                await workers.resign(self._database, ROLE, self._identity.worker())
        except (TimeoutError, StoreUnavailable) as error:
            log.info("rows are left in the outbox", reason=str(error) or "no time left")

    async def _close(self) -> None:
        rounds = list(self._under_way.values())
        for round_ in rounds:
            round_.cancel()
        await asyncio.gather(*rounds, return_exceptions=True)
        for queue in self._queues.values():
            await queue.close()
