"""What a worker asks of the schema at its start."""

import subprocess
import sys
from typing import NoReturn

import asyncpg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from orchestrator.domain.errors import StoreUnavailable
from orchestrator.store import revision


async def test_a_server_that_just_starts_is_one_to_wait_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def refuse(*_: object, **__: object) -> NoReturn:
        raise asyncpg.CannotConnectNowError("the database system is starting up")

    monkeypatch.setattr(asyncpg, "connect", refuse)

    with pytest.raises(StoreUnavailable, match="starting up"):
        await revision.current("postgresql://nobody@localhost/none")


def test_the_newest_file_is_the_head_that_alembic_sees() -> None:
    config = Config()
    config.set_main_option("script_location", str(revision.scripts()))
    alembics = ScriptDirectory.from_config(config)
    assert revision.head() == alembics.get_current_head()
    assert not any(revision.is_later(script.revision) for script in alembics.walk_revisions())


@pytest.mark.parametrize(
    ("found", "is_later"), [("9999", True), ("0001", False), ("x999", False), ("99999", False)]
)
def test_a_later_release_is_told_by_its_number(found: str, is_later: bool) -> None:
    assert revision.is_later(found) is is_later


def test_a_worker_starts_without_alembic_and_sqlalchemy() -> None:
    """They are a sixth of what it would import."""
    loaded = "import orchestrator.cli.worker, sys; print(*sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", loaded], capture_output=True, text=True, check=True
    )
    assert {"alembic", "sqlalchemy"}.isdisjoint(answer.stdout.split())
    assert "orchestrator.app" in answer.stdout.split()
