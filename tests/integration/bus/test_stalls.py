"""A consumer that stands still beside messages is built anew, and reads on."""

from dataclasses import replace

import pytest

from orchestrator.bus import watch
from orchestrator.bus.options import BusOptions
from orchestrator.store.database import Database
from tests.fakes.bus import running_consumer, until
from tests.integration.bus.rows import has_tasks, publish_tasks


async def test_a_consumer_that_is_stuck_reads_on_after_it_was_built_anew(
    database: Database, options: BusOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "INTERVAL_SECONDS", 0.2)
    impatient = replace(options, stalled_after_seconds=2.0)
    async with running_consumer(database, impatient) as consumer:
        await publish_tasks(options, ["first"])
        await until(lambda: has_tasks(database, 1))
        stuck = consumer._session
        assert stuck is not None
        # What a fault of the client would look like: assigned, placed, and never fetched.
        stuck.assignment.pause_all()
        await publish_tasks(options, [f"t{n}" for n in range(50)])
        await until(lambda: has_tasks(database, 51), seconds=60)
        assert consumer._session is not stuck
