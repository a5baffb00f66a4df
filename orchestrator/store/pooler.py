"""Whether the connection that the URL gives is a session, as a worker needs it.

Behind a pooler in transaction mode each transaction may have another server: `LISTEN` is accepted
and nothing is ever heard, settings and prepared statements are those of whoever came before. No
pooler tells its mode to a client, so two connections find it out.
"""

import asyncio
import uuid
from contextlib import AsyncExitStack
from typing import Any

import asyncpg

from orchestrator.domain.errors import InvalidSettings
from orchestrator.store.database import DatabaseOptions
from orchestrator.store.errors import login_errors

MARK = "orchestrator.session"
ROUNDS = 10
"""Beside other clients a pooler may give a client the same server again by chance, so one is not
enough: of five servers it does so ten times in a row once in 10 million."""

STATEMENT_MODE = "transaction blocks not allowed"
"""PgBouncer's words."""


async def check_sessions(options: DatabaseOptions) -> None:
    """Refuses a pooler that gives no sessions.

    Raises:
        InvalidSettings: it is in transaction or in statement mode.
        StoreUnavailable: it could not be found out.
    """
    with login_errors():
        async with asyncio.timeout(options.patience_seconds), AsyncExitStack() as stack:
            ours, other = [await _connect(options, stack) for _ in range(2)]
            for _ in range(ROUNDS):
                if not await _is_session(ours, other):
                    raise InvalidSettings(
                        "DATABASE_URL leads to a pooler that does not keep sessions (transaction "
                        "or statement mode); set pool_mode=session for this database, or connect "
                        "to PostgreSQL itself"
                    )


async def _connect(options: DatabaseOptions, stack: AsyncExitStack) -> Any:
    connection = await asyncpg.connect(
        options.url,
        timeout=options.connect_timeout_seconds,
        command_timeout=options.patience_seconds,
        statement_cache_size=0,  # a named statement would be one more thing that belongs to it
    )
    stack.callback(connection.terminate)
    return connection


async def _is_session(ours: Any, other: Any) -> bool:
    """A setting of ours stays with us, and the other one does not see it."""
    mark = uuid.uuid4().hex
    try:
        await ours.execute(f"SET {MARK} = '{mark}'")
        # An open transaction keeps its server, so that ours has to take another one.
        async with other.transaction():
            seen = await _mark(other)
            async with ours.transaction():
                kept = await _mark(ours)
    except asyncpg.PostgresError as error:
        if STATEMENT_MODE in str(error):
            return False
        raise
    return bool(kept == mark and seen != mark)


async def _mark(connection: Any) -> object:
    return await connection.fetchval(f"SELECT current_setting('{MARK}', true)")
