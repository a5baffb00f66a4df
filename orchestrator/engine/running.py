"""The tasks in this worker's memory: each is loaded, run in a coroutine of its own, and let go.

A task leaves in one of three ways: its runner journaled a rest, it is given back, or it turned out
to have a newer owner. It is never run twice under one epoch: what an earlier runner handed to the
journal may still be on its way, and would be taken for the later one's.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from orchestrator.domain.errors import StoreUnavailable
from orchestrator.domain.ids import Epoch, TaskKey
from orchestrator.engine.batches import Batches
from orchestrator.engine.journal import Fenced
from orchestrator.engine.runner import Runner
from orchestrator.engine.tools import Tools
from orchestrator.store.ingest import Claimed
from orchestrator.store.loading import Deferred, Loaded, Unreadable
from orchestrator.telemetry import metrics
from orchestrator.telemetry.logs import bind_task, get_logger
from orchestrator.telemetry.traces import parse_traceparent

GIVE_BACK_DELAY = timedelta(seconds=1)
"""Times the number of claims: what fails at once must not be tried at once for ever."""

AWAY_SECONDS = 0.5
"""Before a task that met an outage is given back: it may be claimed again at once."""

log = get_logger(__name__)

PIECE_BYTES = 8 * 1024 * 1024
"""Of what is loaded at once: a piece is in memory several times until its tasks are built."""

Load = Callable[[Sequence[TaskKey], int], Awaitable[list[Loaded | Unreadable | Deferred]]]
"""Of these tasks as many as have this many bytes."""
GiveBack = Callable[[Sequence[Claimed], timedelta | None], Awaitable[int]]
"""With the delay until they are claimed again; None: at once, and the claim does not count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What may be in memory at once."""

    tasks: int
    bytes: int = 2**62


BESIDE = 16
"""Tasks beyond the capacity, of those that do not wait for a place of their own."""

MAX_UNLOADED = 48
"""Tasks that were claimed and are not loaded: where PostgreSQL is slow, claims do not run ahead."""


@dataclass(slots=True)
class _Held:
    epoch: Epoch
    runner: Runner
    work: "asyncio.Task[bool]"
    bytes: int
    is_lost: bool = False
    """It has a newer owner, and is being stopped."""


class Running:
    """Owned by the worker. `run` loads and starts, everything else may be called at any time."""

    def __init__(
        self,
        tools: Tools,
        *,
        load: Load,
        give_back: GiveBack,
        capacity: Capacity,
        freed: Callable[[], None],
        missed: Callable[[Iterable[Claimed]], None],
    ) -> None:
        """`freed` is called when a task was let go: there is room for another.

        `missed` is called with claims that others took over although nobody died: before they were
        loaded here, or while this worker stood still.
        """
        self._tools = tools
        self._freed = freed
        self._missed = missed
        self._load = load
        self._give_back = give_back
        self._capacity = capacity
        self._batches = Batches(tools.lease, patience=tools.options.lease)
        self._beside: set[Claimed] = set()
        """Of what was started or is to be: tasks that did not wait for a place."""
        self._starting: dict[TaskKey, Epoch] = {}
        """Never what runs under this epoch or a newer one: it would be begun a second time."""
        self._deferred: set[TaskKey] = set()
        """What the last load had no room for: others may claim what this worker could only keep."""
        self._loading: dict[TaskKey, Epoch] = {}
        """What the load under way was asked for; without what was lost since."""
        self._unsettled: set[Claimed] = set()
        self._is_draining = False
        self._runners: dict[TaskKey, _Held] = {}
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._runners) + len(self._starting)

    @property
    def room(self) -> int:
        """How many more tasks may be claimed."""
        return self._room_within(self._capacity.tasks - len(self) + self._held_beside)

    @property
    def beside(self) -> int:
        """How many more tasks may be claimed that do not wait for a place."""
        return self._room_within(BESIDE - self._held_beside)

    def _room_within(self, places: int) -> int:
        """How many of these could be loaded: what a worker could only keep is left to others."""
        if self._free_bytes <= 0 or not self._deferred.isdisjoint(self._starting):
            return 0
        return max(0, min(places, MAX_UNLOADED - len(self._starting)))

    @property
    def _held_beside(self) -> int:
        if self._beside:
            self._beside &= self.tasks()
        return len(self._beside)

    @property
    def _free_bytes(self) -> int:
        return self._capacity.bytes - sum(held.bytes for held in self._runners.values())

    def grow(self, sizes: Iterable[tuple[TaskKey, int]]) -> None:
        """These have so many bytes more."""
        for key, size in sizes:
            if key in self._runners:
                self._runners[key].bytes += size

    def tasks(self) -> set[Claimed]:
        """What this worker believes that it owns."""
        held = {
            Claimed(key=key, epoch=held.epoch)
            for key, held in self._runners.items()
            if not held.is_lost
        }
        return held | {Claimed(key=k, epoch=e) for k, e in self._starting.items()}

    def unsettled(self) -> frozenset[Claimed]:
        """Tasks whose runner ended without a rest, and that could not be given back."""
        return frozenset(self._unsettled)

    def settle(self, tasks: Iterable[Claimed]) -> None:
        """Forgets these: they are given back, or were not owned any more."""
        self._unsettled.difference_update(tasks)

    def start(self, claimed: Iterable[Claimed], *, beside: bool = False) -> None:
        """Runs these; a task that ran already under this epoch is left alone.

        `beside`: they do not count to the capacity.
        """
        if self._is_draining:
            return
        for task in claimed:
            if task in self._unsettled or self._runs(task.key, task.epoch):
                continue
            if beside:
                self._beside.add(task)
            self._starting[task.key] = max(task.epoch, self._starting.get(task.key, task.epoch))
        if self._starting:
            self._wake.set()

    def drop(self, tasks: Iterable[Claimed]) -> None:
        """Stops tasks that have a newer owner; nothing is written about them."""
        for task in tasks:
            if self._starting.get(task.key) == task.epoch:
                self._missed([task])
                del self._starting[task.key]
            if self._loading.get(task.key, task.epoch) <= task.epoch:
                self._loading.pop(task.key, None)
            running = self._runners.get(task.key)
            if running is not None and running.epoch == task.epoch:
                running.is_lost = True
                running.work.cancel()

    def ring(self, keys: Iterable[TaskKey]) -> None:
        """These have messages that can't wait; one that is not here yet begins with them."""
        for key in keys:
            if key in self._runners:
                self._runners[key].runner.ring()

    async def run(self) -> None:
        """Loads and starts what was claimed, until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._wake.wait()
                self._wake.clear()
                await self._start_all(group)

    async def drain(self, grace: timedelta) -> None:
        """Lets the runners come to a rest within the grace, then stops the others."""
        self._is_draining = True
        self._starting.clear()
        try:
            async with asyncio.timeout(grace.total_seconds()):
                while self._runners:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            tasks = [held.work for held in self._runners.values()]
            log.info("calls are interrupted, their tasks go on elsewhere", tasks=len(tasks))
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _start_all(self, group: asyncio.TaskGroup) -> None:
        free = self._free_bytes
        if not self._starting or (free <= 0 and self._runners):
            return  # the end of each of them is a reason to look again
        asked = self._batches.next(self._starting)
        self._loading = {key: self._starting[key] for key in asked}
        try:
            loaded = await self._load(asked, min(max(free, 1), PIECE_BYTES))
        except StoreUnavailable as error:
            await self._later(asked, error)
            return
        self._batches.loaded(asked)
        waited = bool(self._deferred) or len(self._starting) >= MAX_UNLOADED
        if len(asked) < len(self._starting):
            self._wake.set()
        self._deferred.difference_update(asked)
        self._deferred |= {task.key for task in loaded if isinstance(task, Deferred)}
        for task in loaded:
            if isinstance(task, Deferred):
                self._loading.pop(task.key, None)
                self._wake.set()
                continue
            if isinstance(task, Unreadable):
                log.error("task can't be run by this release", error=str(task.error))
                if not await self._return(task.claimed, delay=GIVE_BACK_DELAY * task.claims):
                    self._unsettled.add(task.claimed)
                key, epoch = task.claimed.key, task.claimed.epoch
                self._forget_starting(key, self._loading.pop(key, epoch))
                continue
            self._start_one(group, task)
        self._forget_missed()
        metrics.TASKS_RUNNING.set(len(self._runners))
        if waited and not self._deferred:
            self._freed()

    def _forget_missed(self) -> None:
        missed = [
            Claimed(key=key, epoch=epoch)
            for key, epoch in self._loading.items()
            if self._starting.get(key) == epoch
        ]
        for task in missed:
            self._forget_starting(task.key, task.epoch)
        self._missed(missed)

    def _forget_starting(self, key: TaskKey, epoch: Epoch) -> None:
        if self._starting.get(key) == epoch:
            del self._starting[key]

    async def _later(self, asked: Sequence[TaskKey], error: StoreUnavailable) -> None:
        log.debug("claimed tasks wait for PostgreSQL", tasks=len(asked), error=str(error))
        if self._batches.failed(asked):
            # One, or none where it was lost meanwhile; it may be lost here, too.
            for key, epoch in tuple(self._loading.items()):
                log.error("task can't be loaded, it is given back", key=key, error=str(error))
                mine = Claimed(key=key, epoch=epoch)
                if not await self._return(mine, delay=GIVE_BACK_DELAY):
                    self._unsettled.add(mine)
                self._forget_starting(key, epoch)
        await asyncio.sleep(0.2)
        self._wake.set()

    def _start_one(self, group: asyncio.TaskGroup, task: Loaded) -> None:
        key, epoch = task.snapshot.task.key, task.snapshot.epoch
        wanted = self._starting.get(key)
        if wanted is None or wanted > epoch or key not in self._loading:
            return  # lost since it was asked for: others may have gone on from this answer
        # With it every claim of it that was heard of meanwhile: loaded again while it runs, it
        # would be begun again when it has ended, with the steps of its beginning.
        del self._starting[key]
        previous = self._runners.get(key)
        if previous is not None:
            previous.work.cancel()  # of an older epoch: its writes are refused anyway
        runner = Runner(task, self._tools)
        name = f"task {task.snapshot.task.task_id}"
        work = group.create_task(self._run_one(task, runner), name=name)
        work.add_done_callback(partial(self._ended, Claimed(key=key, epoch=epoch)))
        self._runners[key] = _Held(epoch, runner, work, task.bytes)

    def _runs(self, key: TaskKey, epoch: Epoch) -> bool:
        running = self._runners.get(key)
        return running is not None and running.epoch >= epoch

    async def _run_one(self, loaded: Loaded, runner: Runner) -> bool:
        task = loaded.snapshot.task
        if loaded.snapshot.seq == 1:
            metrics.CLAIM_SECONDS.observe((self._tools.now() - task.created_at).total_seconds())
        mine = Claimed(key=task.key, epoch=loaded.snapshot.epoch)
        trace = parse_traceparent(task.traceparent)
        with bind_task(task.task_id, trace.trace_id if trace else None):
            return await self._guard(runner, mine, claims=loaded.claims)

    def _ended(self, mine: Claimed, work: "asyncio.Task[bool]") -> None:
        """Called back, not in the coroutine: one that is stopped at once never gets to run."""
        is_settled = not work.cancelled() and work.exception() is None and work.result()
        if not is_settled:
            self._unsettled.add(mine)
        held = self._runners.get(mine.key)
        if held is not None and held.epoch == mine.epoch:
            del self._runners[mine.key]
        metrics.TASKS_RUNNING.set(len(self._runners))
        self._changed.set()
        if self._starting:
            self._wake.set()
        self._freed()

    async def _guard(self, runner: Runner, mine: Claimed, *, claims: int) -> bool:
        """Runs it; whether nothing is left to be done about it here."""
        try:
            status = await runner.run()
        except Fenced:
            metrics.FENCED.inc()
            log.info("task has a newer owner, nothing more is written here")
            self._found_lost(mine)
            return True
        except StoreUnavailable as error:
            # Asked for something beside the journal. It is no fault of the task's: five such
            # outages must not set it aside.
            log.debug("task waits for PostgreSQL", error=str(error))
            await asyncio.sleep(AWAY_SECONDS)
            return await self._return(mine, delay=None)
        except Exception:
            # The outermost frame of a task: whatever it is, the task must not stay with a worker
            # that does not run it.
            log.exception("task failed inside the worker, it is given back")
            return await self._return(mine, delay=GIVE_BACK_DELAY * claims)
        if status.is_final:
            metrics.TASKS_FINISHED.labels(status.value).inc()
            log.info("task ended", status=status.value)
        return True

    async def _return(self, mine: Claimed, *, delay: timedelta | None) -> bool:
        try:
            given_back = await self._give_back([mine], delay)
        except StoreUnavailable as error:
            log.warning("task could not be given back, a later look does it", error=str(error))
            return False
        if not given_back:
            self._found_lost(mine)
        # Entries that are still on their way are refused by the epoch.
        self._tools.journal.forgive(mine.key, mine.epoch)
        return True

    def _found_lost(self, mine: Claimed) -> None:
        """By what it wrote, before the worker compared its tasks with PostgreSQL."""
        if self._tools.lease.stood_still():
            self._missed([mine])
