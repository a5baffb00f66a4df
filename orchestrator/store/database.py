"""Connections to PostgreSQL: their settings, and which of them are used again.

Every statement of the product is a transaction of its own (autocommit, one round trip): there is no
session to leak, and a cancelled coroutine leaves no row locked.
"""

from __future__ import annotations  # asyncpg's classes are generic in their stubs alone

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import asyncpg
import orjson
from asyncpg.pool import PoolConnectionProxy

from orchestrator.domain.errors import StoreUnavailable
from orchestrator.store.errors import (
    KEPT,
    Blame,
    SessionUseless,
    blame,
    login_errors,
    store_errors,
)
from orchestrator.store.lineage import Lineage
from orchestrator.telemetry.outage import Outage

Row = asyncpg.Record

SETTLE = """
SELECT count(set_config(name, value, false)),
       current_setting('transaction_read_only')::bool AS is_read_only
FROM unnest($1::text[], $2::text[]) AS settings (name, value)
"""
"""A statement and no start-up parameters: PgBouncer refuses a client that brings such."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseOptions:
    """How to reach PostgreSQL; `url` is libpq's, with its parameters (`sslmode`, `sslrootcert`)."""

    url: str = field(repr=False)
    pool_size: int = 8
    connect_timeout_seconds: float = 5.0
    statement_timeout_seconds: float = 10.0
    application_name: str = "orchestrator"

    @property
    def patience_seconds(self) -> float:
        """For a free connection and the statement together; the server's own limit comes first."""
        return self.statement_timeout_seconds + 2


def session_settings(options: DatabaseOptions) -> dict[str, str]:
    milliseconds = int(options.statement_timeout_seconds * 1000)
    return {
        "application_name": options.application_name,
        "statement_timeout": str(milliseconds),
        "lock_timeout": "5000",
        "idle_in_transaction_session_timeout": str(milliseconds),
        "tcp_keepalives_idle": "10",
        "timezone": "UTC",
        # The statements are short and their plans simple: compiling them costs more than it saves.
        "jit": "off",
    }


async def settle(connection: Any, options: DatabaseOptions) -> bool:
    """Gives a new session its settings; whether it is read-only."""
    settings = session_settings(options)
    row = await connection.fetchrow(SETTLE, list(settings), list(settings.values()))
    return bool(row["is_read_only"])


async def _add_codecs(connection: asyncpg.Connection[Row]) -> None:
    for name in ("json", "jsonb"):
        await connection.set_type_codec(
            name,
            encoder=lambda value: orjson.dumps(value).decode(),
            decoder=orjson.loads,
            schema="pg_catalog",
        )


async def _keep(_: object) -> None:
    """Nothing to reset: no statement leaves a setting, a lock or a cursor behind.

    asyncpg's own reset would be a second round trip for every statement.
    """


def with_reserve(options: DatabaseOptions) -> Database:
    """A worker's: a connection is set aside for what must not wait, and it knows its server."""
    outage, lineage = _outage(), Lineage()
    reserve = Database(replace(options, pool_size=1), outage=outage, lineage=lineage)
    return Database(options, reserve=reserve, outage=outage, lineage=lineage)


def _outage() -> Outage:
    return Outage("PostgreSQL", during="statements")


class Database:
    """A pool of connections; each method is one statement in a transaction of its own."""

    def __init__(
        self,
        options: DatabaseOptions,
        *,
        reserve: Database | None = None,
        outage: Outage | None = None,
        lineage: Lineage | None = None,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        """`reserve` is opened and closed with it; `outage` is told by all who share it once.

        With a `lineage` no statement reaches a server that may have forgotten commits.
        """
        self._options = options
        self._reserve = reserve
        self._pool: asyncpg.Pool[Row] | None = None
        self._outage = outage or _outage()
        self._lineage = lineage
        self._seconds = seconds
        self._useless_since: float | None = None

    @property
    def reserve(self) -> Database:
        """Where a statement queues behind no other; the same as the rest where there is none."""
        return self._reserve or self

    @property
    def useless_seconds(self) -> float:
        """For how long each session was refused for its own sake, new ones too; 0 where none is."""
        return 0.0 if self._useless_since is None else self._seconds() - self._useless_since

    async def open(self) -> None:
        """Connects.

        Raises:
            StoreUnavailable: nobody answers there, for now.
            InvalidSettings: the URL can't be used, or the server refuses the login.
        """
        if self._reserve is not None:
            await self._reserve.open()
        if self._pool is None:  # an earlier attempt may have come half the way
            self._pool = await self._connect()

    async def _connect(self) -> asyncpg.Pool[Row]:
        options = self._options
        with login_errors():
            return await asyncpg.create_pool(
                options.url,
                # No floor: asyncpg would restore it beside us, and connect while nobody asks.
                min_size=0,
                init_size=1,
                max_size=options.pool_size,
                timeout=options.connect_timeout_seconds,
                command_timeout=options.patience_seconds,
                init=self._prepare,
                reset=_keep,
            )

    async def _prepare(self, connection: asyncpg.Connection[Row]) -> None:
        is_read_only = await settle(connection, self._options)
        await _add_codecs(connection)
        if self._lineage is None:
            return
        await self._lineage.check(connection)
        if is_read_only:
            raise SessionUseless("PostgreSQL takes no writes: new sessions are read-only")

    async def close(self) -> None:
        """Closes what is idle, and cuts what is not within two seconds."""
        if self._reserve is not None:
            await self._reserve.close()
        pool, self._pool = self._pool, None
        if pool is None:
            return
        # A frozen server would keep a graceful close waiting for ever.
        try:
            async with asyncio.timeout(2):
                await pool.close()
        except TimeoutError:
            pool.terminate()

    async def fetch(self, sql: str, *args: Any) -> Sequence[Row]:
        """The rows of one statement.

        It ends in time whatever the network does: also when no connection gets free, and when
        nobody answers any more. That PostgreSQL is away is logged here, once for all who ask.
        """
        try:
            with store_errors():
                async with asyncio.timeout(self._options.patience_seconds):
                    rows = await self._ask(sql, args)
        except StoreUnavailable as error:
            self._outage.failed(error)
            if isinstance(error, SessionUseless) and self._useless_since is None:
                self._useless_since = self._seconds()
            raise
        self._outage.is_over()
        self._useless_since = None
        return rows

    async def _ask(self, sql: str, args: Sequence[Any]) -> Sequence[Row]:
        """Once more on a new session where the one at hand is of no use: nothing was done on it."""
        try:
            return await self._ask_once(sql, args)
        except asyncpg.PostgresError as error:
            if self._pool is None or blame(error) is not Blame.SESSION:
                raise
            # What one session met, its elders will meet: none of them is used again.
            await self._pool.expire_connections()
        return await self._ask_once(sql, args)

    async def _ask_once(self, sql: str, args: Sequence[Any]) -> Sequence[Row]:
        async with self._borrowed() as borrowed:
            return await borrowed.fetch(sql, *args)

    @asynccontextmanager
    async def _borrowed(self) -> AsyncIterator[PoolConnectionProxy[Row]]:
        pool = self._pool  # it may be closed while a statement is under way
        if pool is None:
            raise StoreUnavailable("PostgreSQL: not connected")
        connection = await pool.acquire()
        try:
            yield connection
        except BaseException as error:
            # Of a cancelled statement nobody knows what is on its way on the session. asyncpg would
            # keep it, and us, until the server has confirmed that the statement is void: one that
            # is cut off never does.
            if blame(error) not in KEPT:
                connection.terminate()
            raise
        finally:
            await pool.release(connection)

    async def fetch_one(self, sql: str, *args: Any) -> Row | None:
        rows = await self.fetch(sql, *args)
        return rows[0] if rows else None

    @asynccontextmanager
    async def listener(self) -> AsyncIterator[asyncpg.Connection[Row]]:
        """A connection outside the pool, for `LISTEN`."""
        with store_errors():
            connection = await asyncpg.connect(
                self._options.url,
                timeout=self._options.connect_timeout_seconds,
                command_timeout=self._options.patience_seconds,
            )
            try:
                await settle(connection, self._options)
                yield connection
            finally:
                connection.terminate()
