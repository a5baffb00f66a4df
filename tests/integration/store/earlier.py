"""A database as an earlier release made it: its version stands in `alembic_version`."""

import asyncio

import asyncpg

from orchestrator.store.migrations import upgrade

RENAME = """
ALTER TABLE orchestrator_schema_version RENAME TO alembic_version;
ALTER INDEX orchestrator_schema_version_pkc RENAME TO alembic_version_pkc;
"""


async def executed(url: str, sql: str) -> None:
    """On a connection of its own, several statements if need be."""
    connection = await asyncpg.connect(url, timeout=10)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


async def made_by_earlier_release(url: str, *, revision: str) -> None:
    await asyncio.to_thread(upgrade, url, to=revision)
    await executed(url, RENAME)
