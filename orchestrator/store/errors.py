"""What each error of PostgreSQL, its poolers and asyncpg means: the one table, and the translation.

Two questions are answered here for every error: which of our errors it is, and whether the session
on which it came is still of use. A session that answers and refuses is worse than a broken one: a
pool keeps it. So an error that is not known to concern the statement alone costs the session.
"""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

import asyncpg

from orchestrator.domain.errors import (
    InvalidSettings,
    NotAllowed,
    SchemaMismatch,
    StoreRejected,
    StoreUnavailable,
)


class Blame(Enum):
    """What an error speaks of."""

    VALUE = "value"
    """The same statement fails again, on any session."""
    MOMENT = "moment"
    """A lock, a limit, another transaction: the session is well, and it is tried again later."""
    SESSION = "session"
    """Nothing was done, and a new session may take the statement."""
    CONNECTION = "connection"
    """It broke off. Nobody knows whether the statement took effect."""


KEPT = (Blame.VALUE, Blame.MOMENT)
"""After these the session is used again."""

STATES: dict[str, Blame] = {
    "08": Blame.CONNECTION,
    "22": Blame.VALUE,
    "23": Blame.VALUE,
    "40": Blame.MOMENT,  # a deadlock, a serialization failure
    "42601": Blame.VALUE,  # a wrong statement is a bug of ours
    "53": Blame.MOMENT,  # disk, memory, connections
    "54": Blame.VALUE,
    "55P03": Blame.MOMENT,  # lock_timeout
    "57014": Blame.MOMENT,  # statement_timeout
    "57P": Blame.CONNECTION,  # shut down, crashed, terminated
    "58": Blame.MOMENT,
    "P0": Blame.MOMENT,  # raised by a function of ours
}
"""By SQLSTATE or its beginning; the longest one counts.

All others are the session's. Among them: 25006 (read-only since it began), 25P02 (a transaction
that nobody ended), 0A000 (a cached plan whose result changed), 26000 and 42P05 (prepared statements
that a pooler took away or left behind), 42P01, 42703, 42883, 3F000 (its search_path, or a schema,
went), 42501 and 28 (its role), XX (its caches).
"""

RETRY_SECONDS = 0.25
"""At most, between two tries of who waits: a second after PostgreSQL is back work goes on."""

REJECTED = ("22", "23", "54")
"""SQLSTATE classes of a value that will never be taken: bad data, a constraint, a limit."""

MISSING = ("42P01", "42703", "42883")
"""SQLSTATEs of a table, a column or a function that is not there."""

DENIED = "42501"
"""SQLSTATE of a role that may not do this."""

POOLED = ("42P05", "26000")
"""SQLSTATEs of prepared statements that are there twice, or gone: the words of some poolers."""


REFUSED_BY_POOLER = ("unsupported startup parameter", "no such database", "no such user")
"""PgBouncer's words for what waiting does not mend; it has one SQLSTATE for all that it says."""


class SessionUseless(StoreUnavailable):
    """The session refuses what a new one may take; the statement took no effect."""


def blame(error: BaseException) -> Blame | None:
    """Of whatever a statement raised; None for what is no error of PostgreSQL or its client."""
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        named = (STATES[state[:n]] for n in range(len(state), 1, -1) if state[:n] in STATES)
        return next(named, Blame.SESSION)
    if isinstance(error, ValueError) and isinstance(error, asyncpg.InterfaceError):
        return Blame.VALUE  # asyncpg's own check of an argument; it has no name
    lost = (OSError, TimeoutError, RuntimeError, asyncpg.InterfaceError)
    # The last is of no family: asyncpg 0.32 raises it where a killed connection is released.
    return Blame.CONNECTION if isinstance(error, (*lost, asyncpg.InternalClientError)) else None


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
        _raise_of_server(error)
    except (ssl.SSLError, OSError, TimeoutError, RuntimeError) as error:
        # The last is uvloop's word for a connection that was reset just before a write.
        reason = str(error) or type(error).__name__
        raise StoreUnavailable(f"PostgreSQL can't be reached: {reason}") from error
    except (asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        if blame(error) is Blame.VALUE:
            raise StoreRejected(f"PostgreSQL can't be given the value: {error}") from error
        raise StoreUnavailable(f"the connection to PostgreSQL broke: {error}") from error


def _raise_of_server(error: asyncpg.PostgresError) -> None:
    state = error.sqlstate or ""
    if state.startswith(REJECTED):
        raise StoreRejected(f"PostgreSQL refuses the value ({state}): {error}") from error
    if state in MISSING:
        raise SchemaMismatch(
            f"the database has not the schema of this release ({error}): run `orchestrator migrate`"
        ) from error
    if state == DENIED:
        raise NotAllowed(
            f"PostgreSQL does not allow this: {error}; grant it, or use another role in "
            "DATABASE_URL"
        ) from error
    if state.startswith("42") and state not in POOLED:
        raise error  # a wrong statement is a bug of ours: never retried
    if blame(error) is Blame.SESSION:
        raise SessionUseless(f"PostgreSQL: {error} ({state})") from error
    raise StoreUnavailable(f"PostgreSQL: {error} ({state})") from error


@contextmanager
def login_errors() -> Iterator[None]:
    """As `store_errors`, at the start: what the server refuses for good is a wrong setting."""
    try:
        with store_errors():
            yield
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
        if str(cause).startswith(REFUSED_BY_POOLER):
            raise InvalidSettings(f"DATABASE_URL: the pooler refuses it: {cause}") from cause
        raise
