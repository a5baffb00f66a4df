"""What PostgreSQL and the broker have in common: frozen for a while, late at the start."""

import asyncio
import time
from typing import Any

from chaos.arena import Arena, Server

GOES_ON_SECONDS = 120.0


async def goes_on(arena: Arena, measure: str, sql: str, *arguments: Any, since: float) -> None:
    """Measures how long after `since` (wall clock) the query's `at` is a later time."""
    async with asyncio.timeout(GOES_ON_SECONDS):
        while (at := (await arena.rows_soon(sql, *arguments))[0]["at"]) < since:
            await asyncio.sleep(0.05)
    arena.measured[measure].append(max(0.0, at - since))


async def freeze(arena: Arena, server: Server) -> float:
    """For 5 to 20 s; when it thawed."""
    server.freeze()
    is_short = arena.size.is_short
    await asyncio.sleep(arena.dice.uniform(2, 4) if is_short else arena.dice.uniform(5, 20))
    server.thaw()
    return time.time()


async def start_late(arena: Arena, server: Server) -> float:
    """After the workers, of which none may end for that; when it started."""
    for worker in arena.fleet.healthy():
        await arena.fleet.stop(worker)
    await server.kill()
    workers = [await arena.fleet.launch(f"worker-{number}") for number in range(2)]
    await asyncio.sleep(arena.dice.uniform(2, 5))
    await server.start()
    since = time.time()
    for worker in workers:
        await arena.fleet.joined(worker)
    return since
