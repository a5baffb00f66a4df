"""A task that kills whoever runs it is set aside after five claims; the others do not suffer."""

import asyncio
import itertools

from chaos.arena import Arena
from chaos.fault import Bar, Fault, Times
from chaos.kinds import POISON, task_message

KILLS = "workers killed by one task"
PATIENCE_SECONDS = 120.0

ROW = """
SELECT t.status, t.claims, w.name AS owner FROM tasks t LEFT JOIN workers w ON w.id = t.owner
WHERE t.task_id = $1
"""

_numbers = itertools.count(1)


async def poison(arena: Arena) -> None:
    """Whoever owns the task dies, and comes back under its own name."""
    task_id, kills = f"{POISON}-{next(_numbers):07d}", 0
    arena.load.add([task_message(POISON, task_id)])
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            rows = await arena.rows_soon(ROW, task_id)
            if rows and rows[0]["status"] == "quarantined":
                break
            owner = arena.fleet.workers.get(rows[0]["owner"]) if rows else None
            if owner is not None and owner.is_running:
                await arena.fleet.kill(owner)
                kills += 1
                await arena.fleet.joined(await arena.fleet.launch(owner.name))
            await asyncio.sleep(0.05)
    arena.measured[KILLS].append(kills)


FAULT = Fault(
    name="crash-loop",
    injected="a task whose owner is killed each time that it runs",
    inject=poison,
    times=Times(alone=5, mixed=0, short=1),
    bars=(Bar(measure=KILLS, at_most=5),),
)
