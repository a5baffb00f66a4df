"""Takes tasks from workers that are dead; any worker does it for all.

Whoever was silent for a lease is dead to the others. But when PostgreSQL itself was silent (it was
restarted, frozen, cut off), all look dead to whoever sees it first, and tasks would be torn from
workers that are in the middle of their calls. So whoever was silent itself gives the others a
lease's time, and a look that was long under way does nothing.
"""

import asyncio
import itertools
import random
from collections.abc import Callable

from orchestrator.domain.errors import StoreUnavailable
from orchestrator.engine.clock import Clock
from orchestrator.engine.lease import Lease
from orchestrator.engine.options import EngineOptions
from orchestrator.engine.store import UpkeepStore
from orchestrator.telemetry.logs import get_logger

FORGETS_EVERY = 4
"""Looks: the list of workers is for people, and nobody waits for it."""

log = get_logger(__name__)


class Rescue:
    """Every worker runs it; row locks keep two looks from doing the same work."""

    def __init__(
        self,
        store: UpkeepStore,
        options: EngineOptions,
        *,
        lease: Lease,
        clock: Clock,
        freed: Callable[[], None],
    ) -> None:
        """`freed` is called when there is something to claim."""
        self._store = store
        self._options = options
        self._lease = lease
        self._clock = clock
        self._freed = freed

    async def run(self) -> None:
        """Looks until cancelled, an eighth of a lease apart: a take-over takes so much longer."""
        interval = self._options.lease.total_seconds() / 8
        for number in itertools.count():
            await asyncio.sleep(interval * random.uniform(0.8, 1.2))
            try:
                await self.run_once()
                if number % FORGETS_EVERY == 0:
                    await self.forget()
            except StoreUnavailable as error:
                log.debug("dead workers can't be looked for", error=str(error))

    async def run_once(self) -> int:
        """One look; how many tasks it made runnable."""
        options = self._options
        if not self._lease.is_steady(options.lease):
            return 0
        until = self._clock.now() + options.lease / 4
        freed = await self._store.reap(lease=options.lease, until=until)
        if freed:
            log.warning("tasks of silent workers are runnable again", tasks=freed)
            self._freed()
        return freed

    async def forget(self) -> None:
        """Removes who is dead from the list of workers."""
        options = self._options
        if not self._lease.is_steady(options.lease):
            return
        until = self._clock.now() + options.lease / 4
        for name in await self._store.forget_dead(lease=options.lease, until=until):
            log.warning("worker is gone", worker=name)
