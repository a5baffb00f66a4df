"""The broker killed, frozen, away, or late at the start."""

import asyncio
import time

from chaos.arena import Arena
from chaos.fault import Bar, Fault, Times
from chaos.faults import servers

READS_ON = "reads on after, s"
AWAY_SECONDS, AWAY_SECONDS_SHORT = 30.0, 4.0

RECEIVED = """
SELECT coalesce(max(extract(epoch FROM received_at))::float8, 0) AS at FROM inbox
"""


async def reads_on(arena: Arena, since: float) -> None:
    """Measures when the next message was taken in."""
    await servers.goes_on(arena, READS_ON, RECEIVED, since=since)


async def crash(arena: Arena) -> None:
    await arena.kafka.kill()
    await arena.kafka.start()
    await reads_on(arena, time.time())


async def freeze(arena: Arena) -> None:
    await reads_on(arena, await servers.freeze(arena, arena.kafka))


async def away(arena: Arena) -> None:
    await arena.kafka.kill()
    await asyncio.sleep(AWAY_SECONDS_SHORT if arena.size.is_short else AWAY_SECONDS)
    await arena.kafka.start()
    await reads_on(arena, time.time())


async def late(arena: Arena) -> None:
    await reads_on(arena, await servers.start_late(arena, arena.kafka))


CRASHED = Fault(
    name="broker-crashed",
    injected="SIGKILL of the broker, start",
    inject=crash,
    times=Times(alone=10, mixed=10, short=1),
    pause_seconds=(2.0, 5.0),
    bars=(Bar(measure=READS_ON, at_most=30.0),),
    touches="kafka",
)
FROZEN = Fault(
    name="broker-frozen",
    injected="SIGSTOP of the broker for 5 to 20 s",
    inject=freeze,
    times=Times(alone=5, mixed=0, short=1),
    bars=(Bar(measure=READS_ON, at_most=30.0),),
    touches="kafka",
)
AWAY = Fault(
    name="broker-away",
    injected="broker killed, and away for 30 s",
    inject=away,
    times=Times(alone=1, mixed=0, short=1),
    bars=(Bar(measure=READS_ON, at_most=10.0),),
    touches="kafka",
)
LATE = Fault(
    name="broker-late",
    injected="all workers started 2 to 5 s before the broker",
    inject=late,
    times=Times(alone=3, mixed=0, short=1),
    bars=(Bar(measure=READS_ON, at_most=30.0),),
    touches="kafka",
)
