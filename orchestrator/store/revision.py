"""Which schema the database has, which one this release needs, and whether the database is ours.

A worker asks at each start, so Alembic is not asked: importing it takes a sixth of that start.
Names are looked up as statements look them up, by the role's `search_path`.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from orchestrator.domain.errors import NotAllowed, SchemaBehind, SchemaForeign, SchemaMismatch
from orchestrator.store.errors import login_errors
from orchestrator.telemetry.logs import get_logger

LOOK_SECONDS = 12.0

PACKAGE = Path(__file__).resolve().parents[1]

VERSION_TABLE = "orchestrator_schema_version"
OLD_VERSION_TABLE = "alembic_version"
"""Of releases whose last revision is 0013 or earlier; every program that uses Alembic has one."""

FIRST_TABLES = ("inbox", "outbox", "steps", "tasks")
"""Of every release."""
TABLES = (
    *FIRST_TABLES,
    "agent_states",
    "agents",
    "dead_letter_replays",
    "kafka_positions",
    "leases",
    "outbox_refused",
    "pauses",
    "service",
    "workers",
)
"""Of this release; a test compares them with `store.tables`."""

RELATIONS = """
SELECT wanted.name, n.nspname AS schema, c.oid::regclass::text AS quoted,
       c.relkind IN ('r', 'p') AS is_table,
       n.nspname = current_schema() AS is_here,
       has_table_privilege(c.oid, 'SELECT') AS is_readable,
       EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'version_num'
               AND NOT a.attisdropped) AS has_versions,
       current_schema() IS NULL AS is_nowhere, current_user AS role
FROM unnest($1::text[]) AS wanted (name)
LEFT JOIN pg_class c ON c.oid = to_regclass(wanted.name)
LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
"""

VERSIONS = "SELECT version_num::text FROM {} ORDER BY 1 LIMIT 3"

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the database has."""

    revision: str | None
    """None before the first migration."""
    version_table: str = VERSION_TABLE
    """Where the revision stands, or is to stand."""


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


def is_later(revision: str) -> bool:
    """Whether a later release made it: revisions are numbers of four digits that only grow."""
    return revision.isdecimal() and len(revision) == len(head()) and revision > head()


async def current(url: str) -> str | None:
    """The revision that the database is at; None before the first migration.

    Raises: as `look`.
    """
    return (await look(url)).revision


async def look(url: str) -> Found:
    """What the database has.

    Raises:
        SchemaForeign: it belongs to another program, or its schema is not whole.
        NotAllowed: the role may not look.
        InvalidSettings, StoreUnavailable: nobody answers, or not to this role.
    """
    with login_errors():
        async with asyncio.timeout(LOOK_SECONDS):
            connection = await asyncpg.connect(url, timeout=LOOK_SECONDS)
            try:
                return await _look(connection)
            finally:
                await connection.close(timeout=1)


async def _look(connection: Any) -> Found:
    rows = await connection.fetch(RELATIONS, [VERSION_TABLE, OLD_VERSION_TABLE, *TABLES])
    if rows[0]["is_nowhere"]:
        raise NotAllowed(
            f"role {rows[0]['role']!r} may use no schema of this database: GRANT USAGE ON SCHEMA "
            "public, or set its search_path"
        )
    relations = {row["name"]: row for row in rows if row["schema"] is not None}
    ours, old = relations.get(VERSION_TABLE), relations.get(OLD_VERSION_TABLE)
    if ours is not None:
        return _by_our_table(await _versions(connection, ours), relations)
    if old is not None and (old["is_here"] or (old["is_readable"] and old["has_versions"])):
        found = _by_old_table(await _versions(connection, old), relations)
        if found is not None:
            return found
    taken = [name for name in TABLES if name in relations and relations[name]["is_here"]]
    if taken:
        raise _foreign(f"it has a table {taken[0]!r} and no table {VERSION_TABLE!r}")
    return Found(revision=None)


async def _versions(connection: Any, relation: Mapping[str, Any]) -> list[str]:
    name = relation["quoted"]
    if not relation["is_readable"]:
        raise NotAllowed(
            f"role {relation['role']!r} may not read {name}: "
            f"GRANT SELECT ON ALL TABLES IN SCHEMA {relation['schema']} TO {relation['role']}"
        )
    if not relation["is_table"] or not relation["has_versions"]:
        raise _foreign(f"{name} is not a table of schema versions")
    rows = await connection.fetch(VERSIONS.format(relation["quoted"]))
    return [row["version_num"] for row in rows]


def _by_our_table(versions: Sequence[str], relations: Mapping[str, Any]) -> Found:
    if not versions and not any(name in relations for name in TABLES):
        return Found(revision=None)
    if len(versions) != 1:
        held = f"{len(versions)} revisions, {', '.join(versions)}" if versions else "no revision"
        raise _damaged(f"{VERSION_TABLE} holds {held}, and must hold one")
    (revision,) = versions
    if revision not in _known() and not is_later(revision):
        raise _foreign(f"{VERSION_TABLE} holds {revision!r}, which is no revision of orchestrator")
    needed = TABLES if revision == head() else FIRST_TABLES
    missing = [name for name in needed if not _are_tables(relations, [name])]
    if missing:
        raise _damaged(
            f"it is at revision {revision}, and {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing, or no tables"
        )
    return Found(revision=revision)


def _by_old_table(versions: Sequence[str], relations: Mapping[str, Any]) -> Found | None:
    """None where it says nothing of the schema that is ours to use."""
    is_ours = len(versions) == 1 and (versions[0] in _known() or is_later(versions[0]))
    if is_ours and _are_tables(relations, FIRST_TABLES):
        return Found(revision=versions[0], version_table=OLD_VERSION_TABLE)
    if not versions or not relations[OLD_VERSION_TABLE]["is_here"]:
        return None
    raise _foreign(
        f"its table {OLD_VERSION_TABLE} holds {', '.join(map(repr, versions))}"
        + (", and orchestrator's tables are not there" if is_ours else "")
    )


def _are_tables(relations: Mapping[str, Any], names: Sequence[str]) -> bool:
    return all(name in relations and relations[name]["is_table"] for name in names)


def _foreign(why: str) -> SchemaForeign:
    return SchemaForeign(
        f"this database belongs to another program: {why}. Give orchestrator a database of its own "
        "in DATABASE_URL, or its role a schema of its own first in its search_path"
    )


def _damaged(why: str) -> SchemaForeign:
    return SchemaForeign(
        f"the schema in this database is not whole: {why}. Restore it from a backup, or use an "
        "empty database"
    )


async def check_revision(url: str) -> str:
    """Refuses a database whose tables this release does not know; its revision.

    Raises:
        SchemaBehind: it has those of an earlier release; migrations have to be run.
        SchemaForeign: it has those of another program, or not all.
        SchemaMismatch: it has none.
    """
    found, needed = await current(url), head()
    if found == needed:
        return found
    if found is None:
        raise SchemaMismatch(
            f"the database has no schema yet, this release needs revision {needed}: "
            "run `orchestrator migrate`"
        )
    if is_later(found):
        # During a rolling upgrade the schema is ahead of the old workers; it only ever grows.
        log.warning("the database is at a later schema than this release", revision=found)
        return found
    raise SchemaBehind(
        f"the database has the schema of revision {found}, this release needs {needed}: "
        "run `orchestrator migrate`"
    )
