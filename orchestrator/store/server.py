"""PostgreSQL itself: what an operator has to know of it before a worker relies on it."""

from dataclasses import dataclass
from datetime import datetime

from orchestrator.store.database import Database

OLDEST_VERSION = 15

FACTS = """
SELECT current_setting('server_version_num')::int / 10000 AS major,
       current_setting('server_version') AS version,
       pg_is_in_recovery() OR current_setting('transaction_read_only')::bool AS is_read_only,
       clock_timestamp() AS now
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    major: int
    version: str
    is_read_only: bool
    """A replica, or a server that takes no writes."""
    now: datetime


async def server_facts(database: Database) -> ServerFacts:
    row = await database.fetch_one(FACTS)
    assert row is not None
    return ServerFacts(**dict(row))
