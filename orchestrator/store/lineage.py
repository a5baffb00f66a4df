"""Whether PostgreSQL is still the server that this process knows, with all that it wrote there.

A replica that takes over and a restored backup begin a new timeline. Commits may be lost then, and
the numbers of tasks, workers and epochs are given again, so that what a worker remembers could be
taken for another one's. Whoever remembers nothing is safe: the process ends, and is started again.
"""

from typing import Any

import asyncpg

from orchestrator.domain.errors import OperatorError
from orchestrator.store.errors import SessionUseless
from orchestrator.telemetry.logs import get_logger

LINEAGE = """
SELECT CASE WHEN NOT pg_is_in_recovery() THEN
    (SELECT system_identifier FROM pg_control_system()) || '/'
    || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) END AS lineage
"""


UNTOLD = (
    asyncpg.FeatureNotSupportedError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.UndefinedFunctionError,
)
"""Of servers that keep it to themselves, as some managed ones do."""

log = get_logger(__name__)


class LineageChanged(OperatorError):
    """PostgreSQL may have forgotten what this process knows."""

    code = "lineage_changed"


class Lineage:
    """Shared by all connections of a worker; each is looked at before its first statement."""

    def __init__(self) -> None:
        self._known: str | None = None
        self._is_told = True

    async def check(self, connection: Any) -> None:
        """Looks where a new connection leads.

        Raises:
            SessionUseless: to a replica, which may be about to take over.
            LineageChanged: to another server, or another timeline, than the first connection.
        """
        if not self._is_told:
            return
        try:
            found = await connection.fetchval(LINEAGE)
        except UNTOLD as error:
            self._is_told = False
            why = "a failover that loses commits goes unnoticed: restart the workers after one"
            log.warning("PostgreSQL does not tell its timeline", error=str(error), meaning=why)
            return
        if found is None:
            raise SessionUseless("PostgreSQL is a replica, or recovers: it takes no writes yet")
        self._known = self._known or found
        if found != self._known:
            raise LineageChanged(
                f"PostgreSQL has another history (system/timeline {found}, was {self._known}): a "
                "replica took over, or a backup was restored. Commits that this worker knows of "
                "may be lost there, so it ends; started again, it goes on from what is there"
            )
