"""What one worker does for all, and calmly: the journal's next month, a look at the invariants.

Nothing waits for it: if it never ran, tasks would go on as they are.
"""

import asyncio
import random
from collections.abc import Callable

from orchestrator.domain.errors import OrchestratorError, StoreUnavailable
from orchestrator.domain.ids import WorkerId
from orchestrator.engine.options import EngineOptions
from orchestrator.store import invariants, retention, workers
from orchestrator.store.database import Database
from orchestrator.telemetry import metrics
from orchestrator.telemetry.logs import get_logger

ROLE = "housekeeping"
INTERVAL_SECONDS = 60.0

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
        while True:
            await asyncio.sleep(INTERVAL_SECONDS * random.uniform(0.8, 1.2))
            try:
                await self.run_once()
            except StoreUnavailable as error:
                log.warning("housekeeping waits for PostgreSQL", error=str(error))
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
            return False
        if await retention.begin_month(self._database):
            log.info("a new month of the journal begins")
        await self._measure()
        return True

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
