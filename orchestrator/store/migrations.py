"""The schema's versions: Alembic, run from code, so that no `alembic.ini` has to be found."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import asyncpg
import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from orchestrator.domain.errors import SchemaBehind, SchemaMismatch, StoreUnavailable
from orchestrator.store.database import store_errors
from orchestrator.telemetry.logs import get_logger

log = get_logger(__name__)

LOCK_KEY = 7_340_031
"""Of the advisory lock under which a schema changes: two processes that start take turns."""

LOOK_SECONDS = 12.0

PACKAGE = Path(__file__).resolve().parents[1]

T = TypeVar("T")


def _scripts() -> Path:
    """In a wheel the migrations lie inside the package, in a checkout beside it."""
    inside = PACKAGE / "migrations"
    return inside if inside.is_dir() else PACKAGE.parent / "migrations"


def _config(connection: sqlalchemy.Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_scripts()))
    config.attributes["connection"] = connection
    return config


@contextmanager
def _drivers_errors() -> Iterator[None]:
    """Takes off what SQLAlchemy wraps around them: a server that just starts has to be awaited."""
    try:
        yield
    except DBAPIError as error:
        if error.connection_invalidated:
            raise StoreUnavailable(f"the connection to PostgreSQL broke: {error.orig}") from error
        cause = error.orig.__cause__ if error.orig is not None else None
        if isinstance(cause, asyncpg.PostgresError | asyncpg.InterfaceError | OSError):
            raise cause from error
        raise


async def _on_connection(
    url: str, work: Callable[[sqlalchemy.Connection], T], *, within_seconds: float | None = None
) -> T:
    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(url, timeout=10)
    )
    try:
        with store_errors(), _drivers_errors():
            async with asyncio.timeout(within_seconds), engine.connect() as connection:
                result = await connection.run_sync(work)
                await connection.commit()
                return result
    finally:
        await engine.dispose()


def _upgrade(connection: sqlalchemy.Connection, *, to: str) -> None:
    connection.execute(sqlalchemy.text(f"SELECT pg_advisory_xact_lock({LOCK_KEY})"))
    command.upgrade(_config(connection), to)


def _revision(connection: sqlalchemy.Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def upgrade(url: str, *, to: str = "head") -> None:
    """Brings the database to this release's schema; does nothing where it is there already.

    Raises:
        StoreUnavailable: nobody answers there.
    """
    asyncio.run(_on_connection(url, partial(_upgrade, to=to)))


def head() -> str:
    """The revision that this release needs."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    assert revision is not None
    return revision


def is_known(revision: str) -> bool:
    """Whether this release has that migration: else a later one made it."""
    try:
        return ScriptDirectory.from_config(_config()).get_revision(revision) is not None
    except CommandError:
        return False


async def current(url: str) -> str | None:
    """The revision that the database is at; None before the first migration."""
    return await _on_connection(url, _revision, within_seconds=LOOK_SECONDS)


async def bring_up_to_date(url: str) -> None:
    """As `upgrade`, from a worker; a schema of a later release is left as it is.

    Raises:
        NotAllowed: the role may not change tables.
    """
    found = await current(url)
    if found is None or (found != head() and is_known(found)):
        await asyncio.to_thread(upgrade, url)
        log.info("the schema is migrated", revision=head(), was=found)


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


def check(url: str) -> None:
    """Compares a migrated database with `store.tables`.

    Raises:
        alembic.util.exc.AutogenerateDiffsDetected: they differ; the text says in what.
    """
    asyncio.run(_on_connection(url, lambda connection: command.check(_config(connection))))
