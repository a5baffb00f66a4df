"""PostgreSQL crashed, cut off, away, frozen, read-only, or late at the start."""

import asyncio
import time

import asyncpg

from chaos.arena import Arena, NothingToBreak
from chaos.fault import Bar, Fault, Times
from chaos.faults import servers

GOES_ON = "goes on after, s"
LINES = "log lines of a worker a second"
MEMORY = "memory of a worker grown, MB"
AWAY_SECONDS, AWAY_SECONDS_SHORT = 60.0, 6.0

CUT = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'orchestrator' AND random() < 0.5
"""

READ_ONLY = """
DO $do$ BEGIN
    EXECUTE format('ALTER DATABASE %I {}', current_database());
END $do$
"""
READ_ONLY_ON = READ_ONLY.format("SET default_transaction_read_only = on")
READ_ONLY_OFF = READ_ONLY.format("RESET default_transaction_read_only")
CUT_ALL = CUT.replace("random() < 0.5", "true")
"""Each worker's next sessions are read-only."""

WAITING = "SELECT coalesce(max(id), 0) AS last FROM outbox"
LEFT = "SELECT count(*) AS rows FROM outbox WHERE id <= $1"
SILENT = "SELECT count(*) AS workers FROM workers WHERE heartbeat_at < to_timestamp($1::float8)"
UPDATES = "updates that waited are out after, s"
WRITERS = "every worker writes after, s"

LATEST = "SELECT coalesce(max(extract(epoch FROM at))::float8, 0) AS at FROM steps"


async def goes_on(arena: Arena, since: float) -> None:
    """Measures when the next step was journaled."""
    await servers.goes_on(arena, GOES_ON, LATEST, since=since)


async def crash(arena: Arena) -> None:
    """No checkpoint, no good-bye: it recovers from its log."""
    await arena.postgres.kill()
    await arena.postgres.start()
    await goes_on(arena, time.time())


async def cut(arena: Arena) -> None:
    ((count,),) = await arena.rows_soon(CUT)
    if count == 0:
        raise NothingToBreak


async def away(arena: Arena) -> None:
    """For a minute; watches what the workers log and hold meanwhile."""
    seconds = AWAY_SECONDS_SHORT if arena.size.is_short else AWAY_SECONDS
    workers = arena.fleet.healthy()
    before = {worker.name: worker.rss_bytes() for worker in workers}
    lines = {worker.name: worker.said().count(b"\n") for worker in workers}
    await arena.postgres.stop()
    began = time.monotonic()
    await asyncio.sleep(seconds)
    for worker in workers:
        said = worker.said().count(b"\n") - lines[worker.name]
        arena.measured[LINES].append(said / (time.monotonic() - began))
        arena.measured[MEMORY].append((worker.rss_bytes() - before[worker.name]) / 1e6)
    await arena.postgres.start()
    await goes_on(arena, time.time())


async def read_only(arena: Arena) -> None:
    """For seconds, as after a failover or in maintenance; half of the times some sessions write."""
    connection = await asyncpg.connect(
        arena.database_url, timeout=10, server_settings={"default_transaction_read_only": "off"}
    )
    try:
        await connection.execute(READ_ONLY_ON)
        await connection.fetch(arena.dice.choice([CUT, CUT_ALL]))
        await asyncio.sleep(arena.dice.uniform(2, 4) if arena.size.is_short else 5.0)
        last = await connection.fetchval(WAITING)
        await connection.execute(READ_ONLY_OFF)
        since = time.time()
        await asyncio.gather(
            goes_on(arena, since),
            _comes(arena, UPDATES, LEFT, last, since=since),
            _comes(arena, WRITERS, SILENT, since, since=since),
        )
    finally:
        await connection.execute(READ_ONLY_OFF)
        await connection.close()


async def _comes(arena: Arena, measure: str, sql: str, argument: float, *, since: float) -> None:
    """Measures when the query counts nothing more."""
    async with asyncio.timeout(servers.GOES_ON_SECONDS):
        while (await arena.rows_soon(sql, argument))[0][0]:
            await asyncio.sleep(0.02)
    arena.measured[measure].append(time.time() - since)


async def freeze(arena: Arena) -> None:
    await goes_on(arena, await servers.freeze(arena, arena.postgres))


async def late(arena: Arena) -> None:
    await goes_on(arena, await servers.start_late(arena, arena.postgres))


CRASHED = Fault(
    name="postgres-crashed",
    injected="SIGKILL of PostgreSQL with all its backends, start",
    inject=crash,
    times=Times(alone=25, mixed=25, short=2),
    pause_seconds=(2.0, 4.0),
    bars=(Bar(measure=GOES_ON, at_most=3.0),),
    touches="postgres",
)
CUT_OFF = Fault(
    name="postgres-cut",
    injected="pg_terminate_backend for a random half of all connections",
    inject=cut,
    times=Times(alone=100, mixed=100, short=4),
    pause_seconds=(0.5, 1.2),
    touches="postgres",
)
AWAY = Fault(
    name="postgres-away",
    injected="PostgreSQL stopped for 60 s",
    inject=away,
    times=Times(alone=1, mixed=0, short=1),
    bars=(
        Bar(measure=LINES, at_most=10.0),
        Bar(measure=MEMORY, at_most=50.0),
        Bar(measure=GOES_ON, at_most=10.0),
    ),
    touches="postgres",
)
FROZEN = Fault(
    name="postgres-frozen",
    injected="SIGSTOP of PostgreSQL with all its backends for 5 to 20 s",
    inject=freeze,
    times=Times(alone=5, mixed=0, short=1),
    bars=(Bar(measure=GOES_ON, at_most=15.0),),
    touches="postgres",
)
READ_ONLY_FOR_A_WHILE = Fault(
    name="postgres-read-only",
    injected="the database made read-only for 5 s, sessions terminated meanwhile",
    inject=read_only,
    times=Times(alone=10, mixed=0, short=2),
    pause_seconds=(1.0, 3.0),
    bars=(
        Bar(measure=GOES_ON, at_most=1.0),
        Bar(measure=UPDATES, at_most=1.0),
        Bar(measure=WRITERS, at_most=2.0),
    ),
    touches="postgres",
)
LATE = Fault(
    name="postgres-late",
    injected="all workers started 2 to 5 s before PostgreSQL",
    inject=late,
    times=Times(alone=3, mixed=0, short=1),
    bars=(Bar(measure=GOES_ON, at_most=15.0),),
    touches="postgres",
)
