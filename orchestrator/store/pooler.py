"""Whether the connections that the URL gives are sessions, as a worker needs them, and so many.

Behind a pooler in transaction mode each transaction may have another server: `LISTEN` is accepted
and nothing is ever heard, settings and prepared statements are those of whoever came before. No
pooler tells its mode to a client, so two connections find it out.
"""

import asyncio
import uuid
from contextlib import AsyncExitStack, suppress
from typing import Any

import asyncpg

from orchestrator.domain.errors import InvalidSettings, StoreUnavailable
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
        async with AsyncExitStack() as stack:
            ours, other = [await _connect(options, stack) for _ in range(2)]
            try:
                async with asyncio.timeout(options.connect_timeout_seconds):
                    are_sessions = await _are_sessions(ours, other)
            except TimeoutError as error:
                raise StoreUnavailable(
                    "PostgreSQL, or a pooler before it, accepts connections and gives no second "
                    "session; is default_pool_size of the pooler too small?"
                ) from error
    if not are_sessions:
        raise InvalidSettings(
            "DATABASE_URL leads to a pooler that does not keep sessions (transaction or statement "
            "mode); set pool_mode=session for this database, or connect to PostgreSQL itself"
        )


async def count_sessions(options: DatabaseOptions, *, wanted: int) -> int:
    """How many of so many sessions the server, or the pooler, gives at the same time."""
    given = 0

    async def ask() -> None:
        nonlocal given
        with suppress(StoreUnavailable), login_errors():
            async with asyncio.timeout(options.connect_timeout_seconds):
                await (await _connect(options, stack)).fetchval("SELECT 1")
                given += 1

    async with AsyncExitStack() as stack:
        await asyncio.gather(*(ask() for _ in range(wanted)))
    return given


async def _connect(options: DatabaseOptions, stack: AsyncExitStack) -> Any:
    connection = await asyncpg.connect(
        options.url,
        timeout=options.connect_timeout_seconds,
        command_timeout=options.patience_seconds,
        statement_cache_size=0,  # a named statement would be one more thing that belongs to it
    )
    stack.callback(connection.terminate)
    return connection


async def _are_sessions(ours: Any, other: Any) -> bool:
    for _ in range(ROUNDS):
        if not await _is_session(ours, other):
            return False
    return True


async def _is_session(ours: Any, other: Any) -> bool:
    """A setting of ours stays with us, and the other one does not see it."""
    mark = uuid.uuid4().hex
    try:
        await ours.execute(f"SET {MARK} = '{mark}'")
        # An open transaction keeps its server, so that ours has to take another one.
        async with other.transaction():
            if await _mark(other) == mark:
                return False  # without a look at ours: there may be no other server to take
            async with ours.transaction():
                return await _mark(ours) == mark
    except asyncpg.PostgresError as error:
        if STATEMENT_MODE in str(error):
            return False
        raise


async def _mark(connection: Any) -> str | None:
    mark: str | None = await connection.fetchval(f"SELECT current_setting('{MARK}', true)")
    return mark
