"""What one worker does for all, and calmly: the journal's next month.

Nothing waits for it: if it never ran, tasks would go on as they are.
"""

import asyncio
import random
from collections.abc import Callable
from datetime import timedelta

from orchestrator.domain.errors import OrchestratorError, StoreUnavailable
from orchestrator.domain.ids import WorkerId
from orchestrator.store import retention, workers
from orchestrator.store.database import Database
from orchestrator.telemetry.logs import get_logger

ROLE = "housekeeping"
INTERVAL_SECONDS = 60.0

log = get_logger(__name__)


class Housekeeping:
    """Every worker runs it, one of them leads."""

    def __init__(
        self, database: Database, *, worker: Callable[[], WorkerId], lease: timedelta
    ) -> None:
        self._database = database
        self._worker = worker
        self._lease = lease

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
        if not await workers.lead(self._database, ROLE, self._worker(), lease=self._lease):
            return False
        if await retention.begin_month(self._database):
            log.info("a new month of the journal begins")
        return True
