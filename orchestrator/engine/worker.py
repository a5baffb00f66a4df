"""The worker: puts the parts of the engine together, and keeps memory in line with PostgreSQL."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from orchestrator.agents.agent import Caller
from orchestrator.agents.targets import Targets
from orchestrator.domain.agent import Agent
from orchestrator.domain.errors import StoreUnavailable
from orchestrator.domain.event import InboxMessage
from orchestrator.domain.ids import TaskKey, WorkerId
from orchestrator.engine.attention import Attention
from orchestrator.engine.calls import Calls
from orchestrator.engine.claimer import Claimer, Places
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
from orchestrator.store.ingest import Claimed, Ingested
from orchestrator.store.journal import Entry, Written
from orchestrator.store.loading import Deferred, Loaded, Unreadable
from orchestrator.telemetry import metrics
from orchestrator.telemetry.logs import get_logger

RECONCILE_SECONDS = 10.0
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
    left_ready: Callable[[], None]
    """Called when tasks of the dead, or of this worker as it ends, may be claimed by any."""
    clock: Clock = field(default_factory=Clock)
    targets: Targets | None = None
    """Shared with whoever else makes calls; the worker's own where there is none."""


class Worker:
    """One per process. `open`, then `run` until cancelled; `drain` and `close` end it gently."""

    def __init__(self, store: Store, options: EngineOptions, outside: Outside) -> None:
        self._store = store
        self._options = options
        self._clock = outside.clock
        self._left_ready = outside.left_ready
        self.lease = Lease(
            options.fence, seconds=self._clock.seconds, cpu_seconds=self._clock.cpu_seconds
        )
        self._is_draining = False
        self._outlived: set[Claimed] = set()
        """Claims that others took over without this worker having died."""
        self._claimer = Claimer(
            store,
            options,
            clock=self._clock,
            worker=lambda: self.id,
            places=self._places,
            start=lambda claimed, beside: self._running.start(claimed, beside=beside),
        )
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
            freed=self._claimer.freed,
            missed=self._outlived.update,
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
            held=lambda: (self.running, self._claimer.spare()),
        )
        self._maintenance = Maintenance(store, options)
        self._rescue = Rescue(
            store, options, lease=self.lease, clock=self._clock, freed=self._freed
        )

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
            rested=self._claimer.rested,
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
        """How many tasks ingest may claim for this worker right now."""
        return self._claimer.room()

    def _places(self) -> Places:
        if self._is_draining or not self.lease.is_held() or self.is_overloaded:
            return Places()
        return Places(free=self._running.room, beside=self._running.beside)

    @property
    def is_overloaded(self) -> bool:
        """Whether PostgreSQL can't keep up with what is to be written: nothing more is taken in."""
        return self._journal.backlog > MAX_BACKLOG

    def ingested(self, ingested: Ingested) -> None:
        """Runs what ingest claimed."""
        if ingested.claimed:
            metrics.CLAIMS.labels("ingest").inc(len(ingested.claimed))
            self._claimer.ingested()
            self._running.start(ingested.claimed)
        if ingested.woken:
            self.attend()
        if ingested.left_ready:
            self._claimer.left_ready()

    def wake(self) -> None:
        """There may be something runnable."""
        self._claimer.wake()

    def _freed(self) -> None:
        """There is something runnable, and perhaps more than this worker can take."""
        self.wake()
        self._left_ready()

    def attend(self) -> None:
        """There may be messages that can't wait for running tasks."""
        self._attention.wake()

    def agents_changed(self) -> None:
        """An operator may have paused or resumed an agent or the model."""
        self._parking.hear()

    async def open(self) -> None:
        await self._membership.join()
        # Of what its earlier life left behind, those who are warm already take their share.
        self._left_ready()
        await self._parking.load()

    async def run(self) -> None:
        """Works until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._journal.run(), name="journal")
            group.create_task(self._membership.run(), name="heartbeat")
            group.create_task(self._running.run(), name="runners")
            group.create_task(self._claimer.run(), name="claimer")
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
            self._left_ready()

    async def close(self) -> None:
        """Leaves the others; to be called when nothing runs any more."""
        try:
            async with asyncio.timeout(GIVE_BACK_SECONDS):
                await self._membership.leave()
        except (StoreUnavailable, TimeoutError) as error:
            log.warning("the end could not be told", error=str(error) or type(error).__name__)

    async def reconcile(self) -> None:
        """Stops what another worker owns, and runs what is owned here and does not run."""
        # Taken before PostgreSQL is asked: what is claimed meanwhile must not be taken for lost.
        believed, unsettled = self._running.tasks(), self._running.unsettled()
        owned = set(await self._store.owned(self.id))
        # Some came to their rest meanwhile: they have no owner, and nothing is to be said of them.
        lost = (believed - owned) & self._running.tasks()
        if lost:
            log.warning("tasks have newer owners", tasks=len(lost))
            self._running.drop(lost)
            if self.lease.stood_still():
                self._outlived |= lost
        self._running.start(owned - self._running.tasks())
        if left := owned & unsettled:
            await self._store.release(self.id, list(left), delay=timedelta())
        self._running.settle(unsettled)
        await self._tell_outlived()

    async def _tell_outlived(self) -> None:
        told = frozenset(self._outlived)
        if not told:
            return
        self._outlived -= told  # before it is sent: two may compare at a time
        try:
            await self._store.outlived(list(told))
        except StoreUnavailable:
            self._outlived |= told
            raise

    async def _come_back(self) -> None:
        """After a silence: nothing was claimed for as long."""
        await self.reconcile()
        self.wake()

    async def _write(self, entries: Sequence[Entry]) -> dict[TaskKey, Written]:
        with metrics.JOURNAL_SECONDS.time():
            written = await self._store.journal(entries)
        self._claimer.written(entry.key for entry in entries)
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

    async def _give_back(self, tasks: Sequence[Claimed], delay: timedelta | None) -> int:
        return await self._store.release(self.id, tasks, delay=delay)

    async def _reconcile_loop(self) -> None:
        while True:
            await asyncio.sleep(RECONCILE_SECONDS * random.uniform(0.8, 1.2))
            try:
                await self.reconcile()
            except StoreUnavailable as error:
                log.debug("tasks can't be compared with PostgreSQL", error=str(error))
