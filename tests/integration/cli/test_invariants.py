"""`orchestrator invariants`: a table, JSON, and an exit code for alarms."""

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from orchestrator.store.database import Database, DatabaseOptions
from tests.integration.cli.command import called
from tests.integration.store.journaled import Journal


@pytest_asyncio.fixture
async def journal(database_url: str) -> AsyncIterator[Journal]:
    database = Database(DatabaseOptions(url=database_url, pool_size=2))
    await database.open()
    journal = Journal(database)
    await journal.accept("order-1", is_claimed=False)
    yield journal
    await database.close()


@pytest.fixture
def environ(database_url: str) -> dict[str, str]:
    return {"DATABASE_URL": database_url}


async def test_a_system_that_is_well_ends_with_0(journal: Journal, environ: dict[str, str]) -> None:
    done = await called(environ, "invariants", "--deep")

    assert done.returncode == 0
    assert {line.split()[1] for line in done.stdout.splitlines()[1:]} == {"0"}


async def test_a_violation_names_a_task_and_ends_with_1(
    journal: Journal, environ: dict[str, str]
) -> None:
    await journal.database.fetch("UPDATE tasks SET run_at = 'infinity'")

    done = await called(environ, "invariants")
    told = await called(environ, "invariants", "--json")

    assert (done.returncode, told.returncode) == (1, 1)
    assert "order-1: ready" in done.stdout
    assert "what to do:" in done.stdout
    document = json.loads(told.stdout)
    assert document["holds"] is False
    assert {i["name"] for i in document["invariants"] if i["violations"]} == {"no_wake_up"}
