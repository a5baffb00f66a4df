"""Connections to PostgreSQL, and the one place where its errors become ours.

Every statement of the product is a transaction of its own (autocommit, one round trip): there is no
session to leak, and a cancelled coroutine leaves no row locked.
"""

from __future__ import annotations  # asyncpg's classes are generic in their stubs alone

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import asyncpg
import orjson
from asyncpg.pool import PoolConnectionProxy

from orchestrator.domain.errors import (
    InvalidSettings,
    NotAllowed,
    SchemaMismatch,
    StoreRejected,
    StoreUnavailable,
)
from orchestrator.store.lineage import Lineage
from orchestrator.telemetry.outage import Outage

Row = asyncpg.Record

DENIED = "42501"
"""SQLSTATE of a role that may not do this."""

REFUSED_CLASSES = ("22", "23", "54")
"""SQLSTATE classes of a value that will never be taken: bad data, a constraint, a limit."""

MISSING = ("42P01", "42703", "42883")
"""SQLSTATEs of a table, a column or a function that is not there."""


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


def server_settings(options: DatabaseOptions) -> dict[str, str]:
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


@contextmanager
def store_errors() -> Iterator[None]:
    """Translates whatever asyncpg raises.

    After killed connections asyncpg raises errors of three unrelated families (not only
    `InternalClientError`), so that all which is not PostgreSQL's own refusal means "unavailable".
    """
    try:
        yield
    except asyncpg.ClientConfigurationError as error:
        raise InvalidSettings(f"DATABASE_URL can't be used: {error}") from error
    except asyncpg.PostgresError as error:
        state = error.sqlstate or ""
        if state.startswith(REFUSED_CLASSES):
            raise StoreRejected(f"PostgreSQL refuses the value ({state}): {error}") from error
        if state in MISSING:
            raise SchemaMismatch(
                f"the database has not the schema of this release ({error}): "
                "run `orchestrator migrate`"
            ) from error
        if state == DENIED:
            raise NotAllowed(
                f"PostgreSQL does not allow this: {error}; grant it, or use another role in "
                "DATABASE_URL"
            ) from error
        if state.startswith("42"):
            raise  # a wrong statement is a bug of ours: never retried
        raise StoreUnavailable(f"PostgreSQL: {error} ({state})") from error
    except (ssl.SSLError, OSError, TimeoutError, RuntimeError) as error:
        # The last is uvloop's word for a connection that was reset just before a write.
        reason = str(error) or type(error).__name__
        raise StoreUnavailable(f"PostgreSQL can't be reached: {reason}") from error
    except (asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        if isinstance(error, ValueError):  # asyncpg's own check of an argument; it has no name
            raise StoreRejected(f"PostgreSQL can't be given the value: {error}") from error
        raise StoreUnavailable(f"the connection to PostgreSQL broke: {error}") from error


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
    ) -> None:
        """`reserve` is opened and closed with it; `outage` is told by all who share it once.

        With a `lineage` no statement reaches a server that may have forgotten commits.
        """
        self._options = options
        self._reserve = reserve
        self._pool: asyncpg.Pool[Row] | None = None
        self._outage = outage or _outage()
        self._lineage = lineage

    @property
    def reserve(self) -> Database:
        """Where a statement queues behind no other; the same as the rest where there is none."""
        return self._reserve or self

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
        try:
            with store_errors():
                return await asyncpg.create_pool(
                    options.url,
                    min_size=1,
                    max_size=options.pool_size,
                    timeout=options.connect_timeout_seconds,
                    command_timeout=options.patience_seconds,
                    server_settings=server_settings(options),
                    init=self._prepare,
                    reset=_keep,
                )
        except ValueError as error:
            raise InvalidSettings(f"DATABASE_URL can't be used: {error}") from error
        except StoreUnavailable as error:
            cause = error.__cause__
            if isinstance(cause, asyncpg.InvalidAuthorizationSpecificationError):
                raise InvalidSettings(
                    f"DATABASE_URL: the server refuses the login: {cause}; check user and password"
                ) from cause
            if isinstance(cause, asyncpg.InvalidCatalogNameError):
                raise InvalidSettings(f"DATABASE_URL: {cause}; create it first") from cause
            raise

    async def _prepare(self, connection: asyncpg.Connection[Row]) -> None:
        await _add_codecs(connection)
        if self._lineage is not None:
            await self._lineage.check(connection)

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
                async with (
                    asyncio.timeout(self._options.patience_seconds),
                    self._borrowed() as borrowed,
                ):
                    rows = await borrowed.fetch(sql, *args)
        except StoreUnavailable as error:
            self._outage.failed(error)
            raise
        self._outage.is_over()
        return rows

    @asynccontextmanager
    async def _borrowed(self) -> AsyncIterator[PoolConnectionProxy[Row]]:
        pool = self._pool  # it may be closed while a statement is under way
        if pool is None:
            raise StoreUnavailable("PostgreSQL: not connected")
        connection = await pool.acquire()
        try:
            yield connection
        except (asyncio.CancelledError, TimeoutError):
            # Nobody knows what is on its way on it. asyncpg would keep it, and us, until the server
            # has confirmed that the statement is void: one that is cut off never does.
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
                server_settings=server_settings(self._options),
            )
            try:
                yield connection
            finally:
                connection.terminate()
