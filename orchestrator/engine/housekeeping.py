"""What one worker does for all, and calmly: the journal's months, a look at the invariants.

Nothing waits for it: if it never ran, tasks would go on as they are.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable

from orchestrator.domain.errors import OrchestratorError, StoreUnavailable
from orchestrator.domain.ids import WorkerId
from orchestrator.engine.options import EngineOptions
from orchestrator.store import invariants, retention, upkeep, workers
from orchestrator.store.database import Database
from orchestrator.telemetry import metrics
from orchestrator.telemetry.logs import get_logger

ROLE = "housekeeping"
INTERVAL_SECONDS = 60.0
PRUNE_SECONDS = 3600.0
MAX_SNAPSHOT_SECONDS = 60.0
"""The age of an open transaction above which somebody is told."""
PAUSE_SECONDS = 0.2
"""Between two deletes of a thousand tasks each."""

log = get_logger(__name__)


class Housekeeping:
    """Every worker runs it, one of them leads."""

    def __init__(
        self, database: Database, options: EngineOptions, *, worker: Callable[[], WorkerId]
    ) -> None:
        self._database = database
        self._worker = worker
        self._options = options
        self._leads = False

    async def run(self) -> None:
        """Passes until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._repeat(self.run_once, INTERVAL_SECONDS), name="look")
            if self._options.keep_finished is not None:
                group.create_task(self._repeat(self.prune, PRUNE_SECONDS), name="prune")

    async def _repeat(self, action: Callable[[], Awaitable[object]], seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds * random.uniform(0.8, 1.2))
            try:
                await action()
            except StoreUnavailable as error:
                log.debug("housekeeping waits for PostgreSQL", error=str(error))
            except OrchestratorError as error:
                # A right that is missing, say: no reason to end a worker.
                log.error("housekeeping can't be done", error=str(error))

    async def run_once(self) -> bool:
        """One pass; whether it was this worker's to do."""
        lease = self._options.lease
        did_lead = self._leads
        self._leads = await workers.lead(self._database, ROLE, self._worker(), lease=lease)
        if not self._leads:
            if did_lead:
                metrics.INVARIANT_VIOLATIONS.clear()  # the one that leads now says how it is
                metrics.OLDEST_SNAPSHOT.set(0)
            return False
        if await retention.begin_month(self._database):
            log.info("a new month of the journal begins")
        await self._measure()
        await self._look_for_long_transactions()
        return True

    async def prune(self) -> retention.Pruned:
        """Deletes what is over for long enough, in the months that ended by then."""
        age = self._options.keep_finished
        if age is None or not self._leads:
            return retention.Pruned()
        found = await retention.months(self._database, older_than=age, by_month=True)
        gone = await retention.prune(
            self._database, found, older_than=age, pause_seconds=PAUSE_SECONDS
        )
        if gone.tasks or gone.months:
            log.info("old tasks are deleted", tasks=gone.tasks, months=list(gone.months))
        return gone

    async def _look_for_long_transactions(self) -> None:
        oldest = await upkeep.oldest_snapshot(self._database)
        metrics.OLDEST_SNAPSHOT.set(oldest.seconds)
        if oldest.seconds > MAX_SNAPSHOT_SECONDS:
            log.warning(
                "a long transaction keeps PostgreSQL from cleaning up: claims grow slow",
                seconds=round(oldest.seconds),
                who=oldest.who,
            )

    async def _measure(self) -> None:
        found = await invariants.check(
            self._database, lease=self._options.lease, max_claims=self._options.max_claims
        )
        for finding in found:
            name = finding.invariant.name
            metrics.INVARIANT_VIOLATIONS.labels(name).set(finding.violations)
            if finding.violations:
                log.warning(
                    "an invariant does not hold",
                    invariant=name,
                    violations=finding.violations,
                    example=finding.examples[0],
                )
