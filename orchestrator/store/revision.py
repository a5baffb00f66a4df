"""Which schema the database has, and which one this release needs.

A worker asks at each start, so Alembic is not asked: importing it takes a sixth of that start.
"""

import asyncio
from pathlib import Path

import asyncpg

from orchestrator.domain.errors import SchemaBehind, SchemaMismatch
from orchestrator.store.errors import store_errors
from orchestrator.telemetry.logs import get_logger

LOOK_SECONDS = 12.0

PACKAGE = Path(__file__).resolve().parents[1]

CURRENT = "SELECT version_num FROM alembic_version"

log = get_logger(__name__)


def scripts() -> Path:
    """Alembic's folder: in a wheel it lies inside the package, in a checkout beside it."""
    inside = PACKAGE / "migrations"
    return inside if inside.is_dir() else PACKAGE.parent / "migrations"


def _known() -> list[str]:
    """The revisions of this release, oldest first: each names its file, `0001_what_it_does.py`."""
    files = (scripts() / "versions").glob("[0-9]*_*.py")
    return sorted(file.name.partition("_")[0] for file in files)


def head() -> str:
    """The revision that this release needs."""
    return _known()[-1]


def is_known(revision: str) -> bool:
    """Whether this release has that migration: else a later one made it."""
    return revision in _known()


async def current(url: str) -> str | None:
    """The revision that the database is at; None before the first migration."""
    with store_errors():
        async with asyncio.timeout(LOOK_SECONDS):
            connection = await asyncpg.connect(url, timeout=LOOK_SECONDS)
            try:
                return await connection.fetchval(CURRENT)  # type: ignore[no-any-return]
            except asyncpg.UndefinedTableError:
                return None
            finally:
                await connection.close(timeout=1)


async def check_revision(url: str) -> None:
    """Refuses a database whose tables this release does not know.

    Raises:
        SchemaBehind: it has those of an earlier release; migrations have to be run.
        SchemaMismatch: it has none.
    """
    found, needed = await current(url), head()
    if found == needed:
        return
    if found is not None and not is_known(found):
        # During a rolling upgrade the schema is ahead of the old workers; it only ever grows.
        log.warning("the database is at a later schema than this release", revision=found)
        return
    if found is None:
        raise SchemaMismatch(
            f"the database has no schema yet, this release needs revision {needed}: "
            "run `orchestrator migrate`"
        )
    raise SchemaBehind(
        f"the database has the schema of revision {found}, this release needs {needed}: "
        "run `orchestrator migrate`"
    )
