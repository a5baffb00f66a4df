"""Workers that die at named places: before and after each transaction, send, answer and publish."""

import asyncio
import itertools
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from chaos import crashing_worker
from chaos.arena import Arena
from chaos.crash_points import LEAD, POINTS, STOP, Point
from chaos.fault import Fault, Times
from chaos.fleet import Worker

SIDE_BY_SIDE = 6
"""More at once, and a task could lose five owners in a row without a step: it would be set aside,
as it should be."""
MAX_PASSAGE = 4
REACH_SECONDS = 120.0
"""One task in 25 is of the rarest kind, and nine workers share them."""
# As if it had found nobody leading; who led before notices within a second.
TAKE_THE_LEAD = """
UPDATE leases SET owner = w.id, epoch = epoch + 1 FROM workers w
WHERE leases.name = 'relay' AND w.name = $1
"""
ENTRY = f"{crashing_worker.__name__}:main"

_numbers = itertools.count(1)


@asynccontextmanager
async def crashing_mains(arena: Arena) -> AsyncIterator[Mapping[str, str]]:
    """Every worker runs the main that can be told to crash; untold it is the product's own."""
    arena.fleet.entry = ENTRY
    yield {}


async def crash(arena: Arena) -> None:
    """A worker at each place, some at a time."""
    turns = asyncio.Semaphore(SIDE_BY_SIDE)

    async def in_turn(at: Point) -> None:
        async with turns:
            await _crash_at(arena, at)

    async with asyncio.TaskGroup() as group:
        for at in arena.dice.sample(POINTS, len(POINTS)):
            group.create_task(in_turn(at))


async def _crash_at(arena: Arena, at: Point) -> None:
    passage = 1 if at.seam.is_rare else arena.dice.randint(1, MAX_PASSAGE)
    told = {crashing_worker.CRASH_AT: at.name, crashing_worker.PASSAGE: str(passage)}
    worker = await arena.fleet.launch(f"crash-{next(_numbers)}", **told)
    worker.dismissed = True
    try:
        async with asyncio.timeout(REACH_SECONDS):
            status = await _ended(arena, worker, at)
    except TimeoutError:
        arena.findings.append(f"crash point {at.name!r} was not reached")
        await arena.fleet.kill(worker)
        return
    arena.fleet.workers.pop(worker.name, None)
    if status != -signal.SIGKILL:
        arena.findings.append(f"crash point {at.name!r}: the worker ended with status {status}")


async def _ended(arena: Arena, worker: Worker, at: Point) -> int:
    """Its exit status; what the point needs is brought about."""
    if at.seam.needs == LEAD:
        async with arena.lock("lead"):  # one at a time can have it
            await arena.fleet.joined(worker)
            await arena.rows_soon(TAKE_THE_LEAD, worker.name)
            return await asyncio.shield(worker.ended)
    if at.seam.needs == STOP:
        await arena.fleet.joined(worker)
        await asyncio.sleep(arena.dice.uniform(0.5, 1.5))
        os.kill(worker.pid, signal.SIGTERM)
    return await asyncio.shield(worker.ended)


FAULT = Fault(
    name="crash-points",
    injected=(
        f"SIGKILL of a worker by itself, at each of {len(POINTS)} named places once (six such "
        "workers at a time): before or after each transaction, send, answer and publish"
    ),
    inject=crash,
    times=Times(alone=20, mixed=0, short=1),
    pause_seconds=(0.0, 0.1),
    bars=(),  # so many deaths a task send many calls again, by design
    prepare=crashing_mains,
)
