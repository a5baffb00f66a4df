"""`orchestrator db prune` counts first, asks, and deletes what it said."""

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from orchestrator.domain.step import EventApplied
from orchestrator.domain.task import TaskStatus
from orchestrator.store.database import Database, DatabaseOptions
from orchestrator.store.journal import Rest
from tests.integration.cli.command import asked, called
from tests.integration.store.journaled import Journal


@pytest_asyncio.fixture
async def journal(database_url: str) -> AsyncIterator[Journal]:
    """With a task that is over for 100 days, and one that is not over."""
    database = Database(DatabaseOptions(url=database_url, pool_size=2))
    await database.open()
    await database.fetch("SELECT setval('tasks_id_seq', 7)")  # of before the months
    journal = Journal(database)
    task = await journal.accept("old")
    assert task is not None
    rest = Rest(status=TaskStatus.COMPLETED)
    await journal.write(task, (EventApplied(event_type="data"), None), rest=rest)
    await database.fetch("UPDATE tasks SET finished_at = now() - interval '100 days'")
    await database.fetch("DELETE FROM outbox")
    await journal.accept("young", is_claimed=False)
    yield journal
    await database.close()


@pytest.fixture
def environ(database_url: str) -> dict[str, str]:
    return {"DATABASE_URL": database_url}


async def left(journal: Journal) -> list[str]:
    return [r["task_id"] for r in await journal.database.fetch("SELECT task_id FROM tasks")]


async def test_a_dry_run_only_counts(journal: Journal, environ: dict[str, str]) -> None:
    done = await called(environ, "db", "prune", "--dry-run", "--json")

    (month,) = json.loads(done.stdout)["months"]
    assert (month["tasks"], month["old"], month["goes_whole"]) == (2, 1, False)
    assert sorted(await left(journal)) == ["old", "young"]


async def test_what_was_counted_is_deleted_after_a_yes(
    journal: Journal, environ: dict[str, str]
) -> None:
    refused = await asked(environ, "db", "prune", answer="n\n")
    assert refused.returncode == 1
    assert "delete 1 tasks?" in refused.stderr

    done = await asked(environ, "db", "prune", "--older-than", "60d", answer="y\n")

    assert done.returncode == 0
    assert "1 tasks deleted" in done.stderr
    assert await left(journal) == ["young"]


async def test_without_a_terminal_and_a_yes_nothing_is_deleted(
    journal: Journal, environ: dict[str, str]
) -> None:
    done = await called(environ, "db", "prune")

    assert done.returncode == 2
    assert "1 tasks are to go, and there is no terminal to ask at: add --yes" in " ".join(
        done.stderr.replace("│", " ").split()
    )
    assert sorted(await left(journal)) == ["old", "young"]


async def test_less_than_30_days_needs_force(journal: Journal, environ: dict[str, str]) -> None:
    done = await called(environ, "db", "prune", "--older-than", "7d", "--yes")
    wrong = await called(environ, "db", "prune", "--older-than", "a week")

    assert done.returncode == 1
    assert "--force" in done.stderr
    assert wrong.returncode == 2
