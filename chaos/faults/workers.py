"""Workers killed, frozen, without descriptors, joining, leaving; how soon others take over."""

import asyncio
import contextlib
import resource
import time

from chaos.arena import LEASE_SECONDS, Arena, NothingToBreak
from chaos.fault import REPEATED, Bar, Fault, Times
from chaos.faults import postgres
from chaos.fleet import Worker, stem

TAKE_OVER = "take-over, s"
SAME_NAME = "take-over under the same name, s"
PATIENCE_SECONDS = 40.0
JOINER = "joiner"
BUSY_SECONDS = 15.0
WORKS_SECONDS = 1.0
"""At most, between the first sight of a worker's work and its death."""

OWNED = """
SELECT t.id, t.epoch FROM tasks t JOIN workers w ON w.id = t.owner
WHERE t.status = 'running' AND w.name = $1
"""

TAKEN = """
SELECT t.id, (SELECT min(extract(epoch FROM s.at))::float8 FROM steps s
              WHERE s.task = t.id AND s.epoch > k.epoch) AS at
FROM unnest($1::bigint[], $2::bigint[]) AS k(id, epoch) JOIN tasks t USING (id)
"""

JOINED = "SELECT extract(epoch FROM started_at)::float8 AS at FROM workers WHERE name = $1"


async def kill(arena: Arena) -> None:
    """Half of them come back under their own name, the others under a new one.

    Each dead member holds the consumer group up for a session, so that after a few kills nothing is
    read any more; who kills only what works has to wait now and then. Not for the first moment in
    which it works again: then all that waited begins at once, which no death elsewhere waits for.
    """
    worker = await _busy(arena)
    await asyncio.sleep(arena.dice.uniform(0, WORKS_SECONDS))
    if worker not in arena.fleet.healthy():
        raise NothingToBreak  # another fault met it meanwhile
    await arena.fleet.kill(worker)
    is_same = arena.dice.random() < 0.5
    await arena.fleet.launch(worker.name if is_same else arena.fleet.new_name(worker.name))


async def _busy(arena: Arena) -> Worker:
    """A worker that runs tasks, if there is one soon."""
    deadline = time.monotonic() + BUSY_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(NothingToBreak):
            worker = arena.worker_to_break()
            if await arena.rows_soon(OWNED, worker.name):
                return worker
        await asyncio.sleep(0.05)
    return arena.worker_to_break()


async def take_over(arena: Arena) -> None:
    """Kills one, and measures until the last of its tasks has got a step by another."""
    worker = arena.worker_to_break()
    owned = await _killed(arena, worker)
    killed_at = time.time()
    times = await _taken(arena, owned)
    arena.measured[TAKE_OVER] += [at - killed_at for at in times]
    joined = await arena.fleet.launch(arena.fleet.new_name(worker.name))
    await arena.fleet.joined(joined)


async def same_name(arena: Arena) -> None:
    """Kills one, starts it again, and measures from its registration."""
    worker = arena.worker_to_break()
    owned = await _killed(arena, worker)
    reborn = await arena.fleet.launch(worker.name)
    await arena.fleet.joined(reborn)
    ((joined_at,),) = await arena.rows_soon(JOINED, worker.name)
    arena.measured[SAME_NAME] += [at - joined_at for at in await _taken(arena, owned)]


async def _killed(arena: Arena, worker: Worker) -> dict[int, int]:
    """The tasks that it left behind, with their epochs."""
    while True:
        if await arena.rows_soon(OWNED, worker.name):
            await arena.fleet.kill(worker)
            if left := await arena.rows_soon(OWNED, worker.name):
                return {row["id"]: row["epoch"] for row in left}
            worker = await arena.fleet.launch(worker.name)
            await arena.fleet.joined(worker)
        await asyncio.sleep(0.02)


async def _taken(arena: Arena, owned: dict[int, int]) -> list[float]:
    """When each got its first step under a newer epoch; one that gets none is told."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                rows = await arena.rows_soon(TAKEN, list(owned), list(owned.values()))
                if all(row["at"] is not None for row in rows):
                    break
                await asyncio.sleep(0.1)
    except TimeoutError:
        arena.findings.append(f"not taken over within {PATIENCE_SECONDS:g} s: {rows}")
    return [row["at"] for row in rows if row["at"] is not None]


async def freeze(arena: Arena) -> None:
    """For one to three leases: others take its tasks over, then it thaws."""
    worker = arena.worker_to_break()
    arena.fleet.freeze(worker)
    await asyncio.sleep(LEASE_SECONDS * arena.dice.uniform(1.0, 3.0))
    arena.fleet.thaw(worker)


async def starve(arena: Arena) -> None:
    """For one to three leases it can open nothing; half of all connections are cut at the begin."""
    worker = arena.worker_to_break()
    with contextlib.suppress(ProcessLookupError):
        _, most = resource.prlimit(worker.pid, resource.RLIMIT_NOFILE)
        before = resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (0, most))
        try:
            await postgres.cut(arena)
            await asyncio.sleep(LEASE_SECONDS * arena.dice.uniform(1.0, 3.0))
        finally:
            resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, before)


async def roll(arena: Arena) -> None:
    """SIGTERM for each in turn; the next one's turn comes when the last one is back."""
    for worker in arena.fleet.healthy():
        status = await arena.fleet.stop(worker)
        if status != 0:
            arena.findings.append(f"{worker.name} ended with {status} after SIGTERM")
        await arena.fleet.joined(await arena.fleet.launch(worker.name))


async def rebalance(arena: Arena) -> None:
    """A worker more joins, or the one that did leaves."""
    # Where workers are killed too, its successor may have come under a new name.
    joiners = [w for w in arena.fleet.healthy() if stem(w.name) == JOINER]
    for joiner in joiners:
        await arena.fleet.stop(joiner)
    if not joiners:
        await arena.fleet.joined(await arena.fleet.launch(arena.fleet.new_name(JOINER)))


DEFAULT_LEASE = {"ORCHESTRATOR_LEASE_SECONDS": "", "KAFKA_SESSION_TIMEOUT_SECONDS": ""}
"""An empty variable counts as not set."""

KILLED = Fault(
    name="worker-killed",
    injected="SIGKILL of a random worker that is at work; half come back under their name",
    inject=kill,
    times=Times(alone=100, mixed=200, short=4),
    pause_seconds=(1.2, 2.4),
)
TAKEN_OVER = Fault(
    name="take-over",
    injected="SIGKILL of a worker, others with the default lease",
    inject=take_over,
    times=Times(alone=8, mixed=0, short=1),
    bars=(Bar(measure=TAKE_OVER, at_most=10.0),),
    workers=DEFAULT_LEASE,
)
REBORN = Fault(
    name="same-name",
    injected="SIGKILL of a worker, which starts again under its name; from its registration on",
    inject=same_name,
    times=Times(alone=15, mixed=0, short=1),
    bars=(Bar(measure=SAME_NAME, at_most=1.0),),
    workers=DEFAULT_LEASE,
)
FROZEN = Fault(
    name="worker-frozen",
    injected="SIGSTOP of a random worker for 1 to 3 leases, SIGCONT",
    inject=freeze,
    times=Times(alone=50, mixed=50, short=2),
    pause_seconds=(0.2, 0.6),
)
STARVED = Fault(
    name="few-descriptors",
    injected="a limit of 0 descriptors for a random worker for 1 to 3 leases: it can open nothing; "
    "and pg_terminate_backend for a random half of all connections",
    inject=starve,
    times=Times(alone=20, mixed=0, short=2),
)
ROLLED = Fault(
    name="rolling-restart",
    injected="SIGTERM of each of 3 workers in turn",
    inject=roll,
    times=Times(alone=10, mixed=0, short=1),
    bars=(Bar(measure=REPEATED, at_most=0),),
    workers=DEFAULT_LEASE,
)
REBALANCED = Fault(
    name="rebalance-storm",
    injected="a fourth worker joins, leaves, joins …",
    inject=rebalance,
    times=Times(alone=30, mixed=30, short=4),
    pause_seconds=(1.0, 2.5),
)
