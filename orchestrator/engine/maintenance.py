"""What any worker does for all: crash loops, tasks that never came, and what is to be measured."""

import asyncio
import random

from orchestrator.domain.errors import StoreUnavailable
from orchestrator.engine.options import EngineOptions
from orchestrator.engine.store import UpkeepStore
from orchestrator.telemetry import metrics
from orchestrator.telemetry.logs import get_logger

log = get_logger(__name__)


class Maintenance:
    """Every worker runs it; row locks keep two passes from doing the same work."""

    def __init__(self, store: UpkeepStore, options: EngineOptions) -> None:
        self._store = store
        self._options = options

    async def run(self) -> None:
        """Passes until cancelled, half a lease apart."""
        interval = self._options.lease.total_seconds() / 2
        while True:
            await asyncio.sleep(interval * random.uniform(0.8, 1.2))
            try:
                await self.run_once()
            except StoreUnavailable as error:
                log.debug("maintenance waits for PostgreSQL", error=str(error))

    async def run_once(self) -> bool:
        """One pass; whether it ended any task."""
        options = self._options
        set_aside = await self._store.quarantine(
            max_claims=options.max_claims, dead_letters=options.dead_letters
        )
        if set_aside:
            log.error("tasks are set aside: claimed again and again", tasks=set_aside)
        given_up = await self._store.expire_expected(dead_letters=options.dead_letters)
        if given_up:
            log.warning("events without a task are given up", tasks=given_up)
        await self._measure()
        return bool(set_aside or given_up)

    async def _measure(self) -> None:
        metrics.TASKS_RUNNABLE.set(await self._store.count_runnable())
        rows, oldest_seconds = await self._store.backlog()
        metrics.OUTBOX_ROWS.set(rows)
        metrics.OUTBOX_AGE.set(oldest_seconds)
