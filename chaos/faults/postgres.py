"""PostgreSQL crashed, cut off, away, frozen, or late at the start."""

import asyncio
import time

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
LATE = Fault(
    name="postgres-late",
    injected="all workers started 2 to 5 s before PostgreSQL",
    inject=late,
    times=Times(alone=3, mixed=0, short=1),
    bars=(Bar(measure=GOES_ON, at_most=15.0),),
    touches="postgres",
)
