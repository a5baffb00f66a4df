"""The broker killed, frozen, away, or late at the start."""

import asyncio
import time

from chaos.arena import Arena
from chaos.fault import Bar, Fault, Times

READS_ON = "reads on after, s"
AWAY_SECONDS, AWAY_SECONDS_SHORT = 30.0, 4.0

RECEIVED = """
SELECT coalesce(max(extract(epoch FROM received_at))::float8, 0) AS at FROM inbox
"""


async def reads_on(arena: Arena, since: float) -> None:
    """Measures how long after `since` (wall clock) the next message was taken in."""
    async with asyncio.timeout(120):
        while (at := (await arena.rows_soon(RECEIVED))[0]["at"]) < since:
            await asyncio.sleep(0.1)
    arena.measured[READS_ON].append(max(0.0, at - since))


async def crash(arena: Arena) -> None:
    await arena.kafka.kill()
    await arena.kafka.start()
    await reads_on(arena, time.time())


async def freeze(arena: Arena) -> None:
    arena.kafka.freeze()
    await asyncio.sleep(
        arena.dice.uniform(2, 4) if arena.size.is_short else arena.dice.uniform(5, 20)
    )
    arena.kafka.thaw()
    await reads_on(arena, time.time())


async def away(arena: Arena) -> None:
    await arena.kafka.kill()
    await asyncio.sleep(AWAY_SECONDS_SHORT if arena.size.is_short else AWAY_SECONDS)
    await arena.kafka.start()
    await reads_on(arena, time.time())


async def late(arena: Arena) -> None:
    """It starts after the workers, of which none may end for that."""
    for worker in arena.fleet.healthy():
        await arena.fleet.stop(worker)
    await arena.kafka.kill()
    workers = [await arena.fleet.launch(f"worker-{number}") for number in range(2)]
    await asyncio.sleep(arena.dice.uniform(2, 5))
    await arena.kafka.start()
    since = time.time()
    for worker in workers:
        await arena.fleet.joined(worker)
    await reads_on(arena, since)


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
