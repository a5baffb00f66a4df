"""Workers whose clock is an hour off: only PostgreSQL's time counts, so nothing comes of it."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from chaos import skewed_worker
from chaos.arena import Arena
from chaos.fault import REPEATED, Bar, Fault, Times

OFF_SECONDS = 3600.0


@asynccontextmanager
async def skewed_mains(arena: Arena) -> AsyncIterator[Mapping[str, str]]:
    """Every worker runs the main whose clock can be set; unset it is the product's own."""
    arena.fleet.entry = f"{skewed_worker.__name__}:main"
    yield {}


async def set_off(arena: Arena) -> None:
    """A worker starts anew with a clock that is fast or slow, and works with it for a while."""
    worker = arena.worker_to_break()
    await arena.fleet.stop(worker)
    off = arena.dice.choice((OFF_SECONDS, -OFF_SECONDS))
    await arena.fleet.joined(
        await arena.fleet.launch(worker.name, **{skewed_worker.CLOCK_OFF: str(off)})
    )
    await asyncio.sleep(1.0 if arena.size.is_short else 4.0)


FAULT = Fault(
    name="clock-off",
    injected="a worker whose clock is an hour fast or slow, in Python: time.time, datetime.now",
    inject=set_off,
    times=Times(alone=10, mixed=0, short=2),
    bars=(Bar(measure=REPEATED, at_most=0),),
    prepare=skewed_mains,
)
