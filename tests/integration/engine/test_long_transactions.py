"""A transaction that stays open is told of: it makes every queue slow."""

import asyncpg
import pytest
from structlog.testing import capture_logs

from orchestrator.engine import housekeeping
from orchestrator.engine.housekeeping import Housekeeping
from orchestrator.store import workers
from orchestrator.store.database import Database
from orchestrator.telemetry import metrics
from tests.fakes.workers import engine_options


async def test_a_long_transaction_is_measured_and_told_of(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = await workers.register(database, "w")
    look = Housekeeping(database, engine_options(), worker=lambda: worker)
    monkeypatch.setattr(housekeeping, "MAX_SNAPSHOT_SECONDS", 0.0)
    other = await asyncpg.connect(
        database_url, server_settings={"application_name": "a report of last year"}
    )
    async with other.transaction(isolation="repeatable_read"):
        await other.fetch("SELECT count(*) FROM tasks")
        with capture_logs() as lines:
            assert await look.run_once()
        assert metrics.OLDEST_SNAPSHOT._value.get() > 0
    await other.close()
    (told,) = [line for line in lines if "long transaction" in line["event"]]
    assert "a report of last year" in told["who"]
