"""The worker: claims tasks, runs them, and keeps memory in line with PostgreSQL."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from orchestrator.agents.agent import Caller
from orchestrator.agents.targets import Targets
from orchestrator.domain.agent import Agent
from orchestrator.domain.errors import StoreUnavailable
from orchestrator.domain.event import InboxMessage
from orchestrator.domain.ids import TaskKey, WorkerId
from orchestrator.engine.attention import Attention
from orchestrator.engine.calls import Calls
from orchestrator.engine.clock import Clock
from orchestrator.engine.journal import Journal
from orchestrator.engine.lease import Lease
from orchestrator.engine.maintenance import Maintenance
from orchestrator.engine.membership import Membership
from orchestrator.engine.options import EngineOptions
from orchestrator.engine.parking import Parking
from orchestrator.engine.patience import patiently
from orchestrator.engine.rescue import Rescue
from orchestrator.engine.running import Capacity, Running
from orchestrator.engine.store import Store
from orchestrator.engine.tools import Tools
from orchestrator.planners.planner import Planner
from orchestrator.store.claims import Deferred, Loaded, Unreadable
from orchestrator.store.ingest import Claimed, Ingested
from orchestrator.store.journal import Entry, Written
from orchestrator.telemetry import metrics
from orchestrator.telemetry.logs import get_logger

RECONCILE_SECONDS = 10.0
SUSPECT_SECONDS = 0.05
"""After a suspect was taken: most make a step at once, and many may wait behind it."""
UNDISTURBED_SECONDS = 1.0
"""For a suspect's first step, in which nothing else is claimed: the sooner it makes one, the less
often a worker dies beside it of something else."""
CLAIM_SECONDS = 0.02
"""Between two claims, so that under load each takes several tasks."""
PIECE = 16
"""Tasks that are claimed at once; the next ones when the event loop has dealt with these."""
LATE_SECONDS = 0.03
"""By which a timer may be late in an event loop that keeps up."""
MAX_LATE_SECONDS = 0.25
"""After which the next piece is claimed all the same: others may be what keeps the processor."""
MAX_PATIENCE = 4
"""Polls between two looks, where several found nothing and nobody gave notice."""
GIVE_BACK_SECONDS = 5.0
"""How long PostgreSQL may take at the end, after the grace."""
MAX_BACKLOG = 5_000
"""Journal entries that wait to be written, above which nothing more is claimed."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """Whom a worker works with, and what time it is there."""

    planner: Planner
    caller: Caller
    agents: Callable[[str], Awaitable[Sequence[Agent]]]
    """The agents of a tenant, as declared at this moment."""
    journaled: Callable[[], None]
    """Called after each commit: there is something for Kafka."""
    clock: Clock = field(default_factory=Clock)
    targets: Targets | None = None
    """Shared with whoever else makes calls; the worker's own where there is none."""


class Worker:
    """One per process. `open`, then `run` until cancelled; `drain` and `close` end it gently."""

    def __init__(self, store: Store, options: EngineOptions, outside: Outside) -> None:
        self._store = store
        self._options = options
        self._clock = outside.clock
        self.lease = Lease(options.fence, seconds=self._clock.seconds)
        self._wake = asyncio.Event()
        self._left_some = False
        """The last look stopped for want of room: there may be more that is runnable."""
        self._is_draining = False
        self._tried: TaskKey | None = None
        self._tried_until = 0.0
        """Of the suspect that was taken last, and has made no step yet."""
        self._journal = Journal(self._write, written=outside.journaled)
        targets = outside.targets or Targets(seconds=self._clock.seconds)
        self._parking = Parking(
            store, targets, clock=self._clock, worker=lambda: self.id, woken=self.wake
        )
        self._running = Running(
            self._tools(outside, targets),
            load=self._load,
            give_back=self._give_back,
            capacity=Capacity(tasks=options.concurrency, bytes=options.max_loaded_bytes),
            freed=self._freed,
        )
        self._attention = Attention(
            look=self._urgent,
            ring=self._running.ring,
            is_idle=lambda: not self._running,
            every=options.poll,
        )
        self._membership = Membership(
            store,
            options,
            lease=self.lease,
            clock=self._clock,
            compare=self._come_back,
            held=lambda: (self.running, self._spare()),
        )
        self._maintenance = Maintenance(store, options)
        self._rescue = Rescue(store, options, lease=self.lease, clock=self._clock, freed=self.wake)

    def _tools(self, outside: Outside, targets: Targets) -> Tools:
        return Tools(
            planner=outside.planner,
            agents=lambda tenant: patiently(lambda: outside.agents(tenant)),
            calls=Calls(
                caller=outside.caller,
                targets=targets,
                lease=self.lease,
                options=self._options,
                now=self._clock.now,
            ),
            journal=self._journal,
            lease=self.lease,
            options=self._options,
            unread=self._unread,
            now=self._clock.now,
            rested=self._rested,
            parked=self._parking.rested,
        )

    @property
    def id(self) -> WorkerId:
        return self._membership.id

    @property
    def running(self) -> int:
        """Tasks in memory."""
        return len(self._running)

    def room(self) -> int:
        """How many tasks ingest may claim for this worker right now.

        None while others wait their turn: else a flood of one tenant would take every place that
        becomes free, in the order in which it comes.
        """
        return min(self._spare(), PIECE)

    def _spare(self) -> int:
        """Places that nobody waits for."""
        return 0 if self._left_some else self._free()

    def _free(self) -> int:
        if self._is_draining or not self.lease.is_held() or self.is_overloaded:
            return 0
        if self._tried is not None and self._clock.seconds() < self._tried_until:
            return 0
        return self._running.room

    @property
    def is_overloaded(self) -> bool:
        """Whether PostgreSQL can't keep up with what is to be written: nothing more is taken in."""
        return self._journal.backlog > MAX_BACKLOG

    def ingested(self, ingested: Ingested) -> None:
        """Runs what ingest claimed."""
        if ingested.claimed:
            metrics.CLAIMS.labels("ingest").inc(len(ingested.claimed))
            self._running.start(ingested.claimed)
        if ingested.woken:
            self.attend()
        if ingested.left_ready:
            self._left_some = True
            self.wake()

    def wake(self) -> None:
        """There may be something runnable."""
        self._wake.set()

    def attend(self) -> None:
        """There may be messages that can't wait for running tasks."""
        self._attention.wake()

    def agents_changed(self) -> None:
        """An operator may have paused or resumed an agent or the model."""
        self._parking.hear()

    async def open(self) -> None:
        await self._membership.join()
        await self._parking.load()

    async def run(self) -> None:
        """Works until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._journal.run(), name="journal")
            group.create_task(self._membership.run(), name="heartbeat")
            group.create_task(self._running.run(), name="runners")
            group.create_task(self._claim_loop(), name="claims")
            group.create_task(self._suspect_loop(), name="suspects")
            group.create_task(self._attention.run(), name="attention")
            group.create_task(self._maintenance.run(), name="maintenance")
            group.create_task(self._parking.run(), name="parking")
            group.create_task(self._rescue.run(), name="rescue")
            group.create_task(self._reconcile_loop(), name="reconcile")

    async def drain(self, grace: timedelta) -> None:
        """Claims nothing more, lets calls end within the grace, and gives the other tasks back."""
        self._is_draining = True
        await self._running.drain(grace)
        try:
            async with asyncio.timeout(GIVE_BACK_SECONDS):
                await self._journal.flush()
                await self._give_back_all()
        except (StoreUnavailable, TimeoutError) as error:
            # Who stops must not wait for ever: the others find the tasks when the lease is over.
            log.warning("tasks could not be given back", error=str(error) or type(error).__name__)

    async def _give_back_all(self) -> None:
        left = await self._store.owned(self.id)
        if left:
            await self._store.release(self.id, left, delay=None)
            log.info("tasks are given back", tasks=len(left))

    async def close(self) -> None:
        """Leaves the others; to be called when nothing runs any more."""
        try:
            async with asyncio.timeout(GIVE_BACK_SECONDS):
                await self._membership.leave()
        except (StoreUnavailable, TimeoutError) as error:
            log.warning("the end could not be told", error=str(error) or type(error).__name__)

    async def claim_once(self) -> int:
        """Takes what is runnable and has room, a piece at most; answers how many."""
        limit = min(self._free(), PIECE)
        self._left_some = limit == 0
        if limit == 0:
            return 0
        claimed = await self._store.claim(
            self.id,
            limit=limit,
            max_claims=self._options.shared_claims,
            weights=self._options.tenant_weights,
        )
        # Ingest may have filled the places meanwhile.
        self._left_some = len(claimed) == limit or self._free() == 0
        if claimed:
            metrics.CLAIMS.labels("poll").inc(len(claimed))
            self._running.start(claimed)
        return len(claimed)

    async def claim_suspect(self) -> bool:
        """Takes a task that may be what kills its workers; whether it took one."""
        if self._free() == 0:
            return False
        suspects = await self._store.claim_suspect(
            self.id,
            shared_claims=self._options.shared_claims,
            max_claims=self._options.max_claims,
        )
        if suspects:
            log.warning("a task that made no step with other workers is tried again, undisturbed")
            self._tried = suspects[0].key
            self._tried_until = self._clock.seconds() + UNDISTURBED_SECONDS
            asyncio.get_running_loop().call_later(UNDISTURBED_SECONDS, self.wake)
            self._running.start(suspects)
        return bool(suspects)

    async def reconcile(self) -> None:
        """Stops what another worker owns, and runs what is owned here and does not run."""
        # Taken before PostgreSQL is asked: what is claimed meanwhile must not be taken for lost.
        believed, unsettled = self._running.tasks(), self._running.unsettled()
        owned = set(await self._store.owned(self.id))
        lost = believed - owned
        if lost:
            log.warning("tasks have newer owners", tasks=len(lost))
            self._running.drop(lost)
        self._running.start(owned - self._running.tasks())
        if left := owned & unsettled:
            await self._store.release(self.id, list(left), delay=timedelta())
        self._running.settle(unsettled)

    async def _come_back(self) -> None:
        """After a silence: nothing was claimed for as long."""
        await self.reconcile()
        self.wake()

    async def _write(self, entries: Sequence[Entry]) -> dict[TaskKey, Written]:
        with metrics.JOURNAL_SECONDS.time():
            written = await self._store.journal(entries)
        if any(entry.key == self._tried for entry in entries):
            self._tried = None
            self.wake()
        self._running.grow((e.key, e.size) for e in entries)
        metrics.JOURNAL_ROWS.observe(sum(len(e.steps) for e in entries))
        for kind, count in Counter(s.body.kind for e in entries for s in e.steps).items():
            metrics.STEPS.labels(kind).inc(count)
        return written

    async def _unread(self, key: TaskKey) -> tuple[tuple[InboxMessage, ...], int]:
        return await patiently(lambda: self._store.unread(key))

    async def _urgent(self) -> Sequence[TaskKey]:
        return await self._store.urgent(self.id)

    async def _load(
        self, keys: Sequence[TaskKey], max_bytes: int
    ) -> list[Loaded | Unreadable | Deferred]:
        return await self._store.load(self.id, keys, max_bytes=max_bytes)

    async def _give_back(self, tasks: Sequence[Claimed], delay: timedelta) -> int:
        return await self._store.release(self.id, tasks, delay=delay)

    def _freed(self) -> None:
        """What found no room is not left to the poll either."""
        if self._left_some:
            self.wake()

    def _rested(self, run_at: datetime | None) -> None:
        """A retry that is due before the next poll is not left to the poll."""
        if run_at is None:
            return
        delay = (run_at - self._clock.now()).total_seconds()
        if delay < self._options.poll.total_seconds():
            asyncio.get_running_loop().call_later(max(0.0, delay), self.wake)

    async def _claim_loop(self) -> None:
        looks = 1  # since there was a reason for one: without, they come at greater distances
        while True:
            self._wake.clear()
            wait = self._options.poll.total_seconds() * random.uniform(0.75, 1.0)
            wait *= min(looks, MAX_PATIENCE)
            looks += 1
            try:
                timer = await self._store.wake_due()
                if timer is not None:
                    wait = min(wait, timer.total_seconds())
                if await self.claim_once() and self._free():
                    # Of more than a piece, or of a tenant whose share was an estimate.
                    self.wake()
            except StoreUnavailable as error:
                log.debug("claims wait for PostgreSQL", error=str(error))
            await self._catch_up()
            try:
                async with asyncio.timeout(wait):
                    await self._wake.wait()
                    looks = 1
            except TimeoutError:
                continue

    async def _catch_up(self) -> None:
        """Returns when the event loop is in time: what is begun comes before what is not.

        More tasks than it can deal with would only be half done, each with a call whose answer lies
        unread; a worker that dies then leaves as many calls to be made again.
        """
        began = self._clock.seconds()
        is_late = True
        while is_late and self._clock.seconds() - began < MAX_LATE_SECONDS:
            before = self._clock.seconds()
            await asyncio.sleep(CLAIM_SECONDS)
            is_late = self._clock.seconds() - before > CLAIM_SECONDS + LATE_SECONDS

    async def _suspect_loop(self) -> None:
        """Looks seldom while there are none; where there are, the next one follows a step."""
        wait = seldom = self._options.lease.total_seconds() / 2
        while True:
            try:
                wait = SUSPECT_SECONDS if await self.claim_suspect() else min(2 * wait, seldom)
            except StoreUnavailable as error:
                log.debug("suspects wait for PostgreSQL", error=str(error))
            await asyncio.sleep(wait * random.uniform(0.8, 1.2))

    async def _reconcile_loop(self) -> None:
        while True:
            await asyncio.sleep(RECONCILE_SECONDS * random.uniform(0.8, 1.2))
            try:
                await self.reconcile()
            except StoreUnavailable as error:
                log.debug("tasks can't be compared with PostgreSQL", error=str(error))
