"""This worker among the others: its name, its heartbeat, and what it does when it was given up."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime

from orchestrator.domain.errors import OperatorError, StoreUnavailable
from orchestrator.domain.ids import WorkerId
from orchestrator.engine.clock import Clock
from orchestrator.engine.lease import Lease
from orchestrator.engine.options import EngineOptions
from orchestrator.engine.store import MemberStore
from orchestrator.store.errors import RETRY_SECONDS
from orchestrator.telemetry import metrics
from orchestrator.telemetry.logs import get_logger

log = get_logger(__name__)


class NameTaken(OperatorError):
    """Another process runs under this worker's name."""

    code = "name_taken"


class Membership:
    """Its loop alone renews the lease and sets the clock."""

    def __init__(
        self,
        store: MemberStore,
        options: EngineOptions,
        *,
        lease: Lease,
        clock: Clock,
        compare: Callable[[], Awaitable[None]],
        held: Callable[[], tuple[int, int]],
    ) -> None:
        """`compare` brings memory in line with PostgreSQL.

        It is awaited before a lapsed lease counts again: tasks may have new owners by then. `held`
        is how many tasks run here, and how many more may: each heartbeat tells it.
        """
        self._store = store
        self._options = options
        self._lease = lease
        self._clock = clock
        self._compare = compare
        self._held = held
        self._id: WorkerId | None = None
        self._is_registering = False
        """It asked for a new life, and does not know whether it has one."""

    @property
    def id(self) -> WorkerId:
        assert self._id is not None, "join() comes first"
        return self._id

    async def join(self) -> None:
        """Begins a life under the worker's name; tasks of an earlier one are runnable at once."""
        sent = self._clock.seconds()
        self._id = await self._store.register(self._options.worker_name)
        self._lease.renew(sent)
        await self.beat()
        log.info("worker joined", worker=self._options.worker_name, id=self._id)

    async def run(self) -> None:
        """Beats until cancelled."""
        wait = interval = self._options.heartbeat.total_seconds()
        took = 0.0
        while True:
            await asyncio.sleep(max(0.0, wait - took))
            started = self._clock.seconds()
            wait = interval
            try:
                await self.beat()
            except StoreUnavailable as error:
                held = "held" if self._lease.is_held() else "lapsed"
                log.debug("no heartbeat", error=str(error), lease=held)
                wait = min(interval, RETRY_SECONDS)
            took = self._clock.seconds() - started
            metrics.HEARTBEAT_AGE.set(self._lease.age_seconds)

    async def beat(self) -> None:
        """One heartbeat.

        Raises:
            NameTaken: another process took the name over.
        """
        sent = self._clock.seconds()
        had_lapsed = not self._lease.is_held()
        at = await self._prove()
        if at is None:
            await self._come_back()
            return
        self._clock.set(at, elapsed_seconds=self._clock.seconds() - sent)
        if had_lapsed:
            log.warning("worker was silent for too long, it looks which tasks are still its own")
            await self._compare()
        self._lease.renew(sent)

    async def _prove(self) -> datetime | None:
        """PostgreSQL's time; None when the others gave this worker up.

        A connection that was cut off in silence must not cost the lease: there is time for another.
        """
        patience = self._options.heartbeat_patience.total_seconds()
        tasks, room = self._held()
        try:
            async with asyncio.timeout(patience):
                return await self._store.heartbeat(self.id, tasks=tasks, room=room)
        except TimeoutError as error:
            raise StoreUnavailable(f"PostgreSQL: no answer within {patience:g} s") from error

    async def _come_back(self) -> None:
        self._lease.drop()
        # Where the answer got lost, the namesake may be this very worker.
        if not self._is_registering and await self._store.has_namesake(
            self._options.worker_name, self.id
        ):
            raise NameTaken(
                f"another worker runs under the name {self._options.worker_name!r}: "
                "give each its own ORCHESTRATOR_WORKER_NAME"
            )
        log.warning("worker was given up by the others, it begins anew")
        sent = self._clock.seconds()
        self._is_registering = True
        self._id = await self._store.register(self._options.worker_name)
        self._is_registering = False
        await self._compare()
        self._lease.renew(sent)

    async def leave(self) -> None:
        """Ends this life; what it still owned is found by the others."""
        if self._id is not None:
            await self._store.leave(self._id)
