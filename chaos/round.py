"""One run: a service under load, faults, quiet, and what the checker says."""

import asyncio
import math
import random
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aiokafka import AIOKafkaConsumer

from chaos.arena import Arena, NothingToBreak, Servers, Size, open_arena
from chaos.checker import Finding, check, resent, sent_at_thaws, told_again
from chaos.evidence import Evidence, gather, input_ends, read_positions, reading
from chaos.fault import REPEATED, RESENT, Bar, Fault, nothing_more

INJECT_SECONDS = 240.0
MOST_TRIES = 5
"""Of a fault that finds nothing to break, on average."""
STUCK_SECONDS = 60.0
"""Without any progress for so long, what is not at its end is stuck."""
WARM_UP_SECONDS = 2.0
ENDED = "every task at its end after, s"
"""Since the last fault was over and the last message published."""
ALL_ENDED = Bar(measure=ENDED, at_most=60.0)
TOLD_AGAIN = "updates told again"
AT_THAWS = "requests sent as their worker thawed"
FEW_AT_THAWS = Bar(measure=AT_THAWS, at_most=1)
"""Of 50 freezes: between the look and the send a worker is for some 0.1 ms."""
SHOWN_FINDINGS = 5
"""Of each invariant."""
MIXED = "mixed"
"""The run of several classes at once, by name."""

UNFINISHED = """
SELECT count(*) FILTER (WHERE status NOT IN ('completed', 'failed', 'cancelled', 'quarantined'))
       + (SELECT count(*) FROM outbox) + (SELECT count(*) FROM outbox_refused) AS left FROM tasks
"""

# It forgets them when it crashes: runs in which it does see the last ones.
DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Of one run."""

    name: str
    injected: Mapping[str, int]
    tasks: int
    calls: int
    """As the agents received them."""
    resent: int
    """Of these, how many again because nobody knew what became of them."""
    seconds: float
    findings: tuple[str, ...]
    """Violations; empty is what it has to be."""
    measured: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    bars: tuple[Bar, ...] = ()

    @property
    def broken(self) -> tuple[Bar, ...]:
        return tuple(b for b in self.bars if not b.holds(list(self.measured.get(b.measure, ()))))

    @property
    def holds(self) -> bool:
        return not self.findings and not self.broken


def broken_off(name: str, error: Exception) -> Outcome:
    """Of a run that did not come to its end: we could not look, so nothing holds."""
    return Outcome(
        name=name,
        injected={},
        tasks=0,
        calls=0,
        resent=0,
        seconds=0.0,
        findings=(f"the run broke off: {error!r}",),
    )


async def run_round(
    servers: Servers,
    faults: Sequence[tuple[Fault, int]],
    *,
    folder: Path,
    size: Size,
    say: Say = print,
) -> Outcome:
    """Faults with how often each; several are injected at the same time.

    `folder` is the run's own, and goes when all held.
    """
    folder.mkdir(parents=True)
    own = faults[0][0] if len(faults) == 1 else None
    prepare = own.prepare if own else nothing_more
    environ = own.workers if own else {}
    began = time.monotonic()
    async with open_arena(servers, folder, size=size, environ=environ, prepare=prepare) as arena:
        arena.say = say
        injected = await _under_load(arena, faults, size=size)
        say("    quiet; the evidence is gathered …")
        await _count_deadlocks(arena)
        evidence = await gather(arena)
        outcome = _outcome(faults, injected, arena, evidence, time.monotonic() - began)
    if outcome.holds:
        shutil.rmtree(folder, ignore_errors=True)
    return outcome


async def _under_load(
    arena: Arena, faults: Sequence[tuple[Fault, int]], *, size: Size
) -> Mapping[str, int]:
    """Returns when every task has come to its end, or its time for that is over."""
    loading = asyncio.create_task(arena.load.run(), name="load")
    person = asyncio.create_task(
        arena.load.be_the_person(arena.waiting_for_a_person), name="person"
    )
    try:
        await asyncio.sleep(WARM_UP_SECONDS / 2 if size.is_short else WARM_UP_SECONDS)
        # Of several, each class lasts as long as the longest: all are at work all the time.
        span = max(n * sum(f.pause_seconds) / 2 for f, n in faults) if len(faults) > 1 else 0.0
        done = await asyncio.gather(
            *(inject_all(arena, fault, times, span_seconds=span) for fault, times in faults)
        )
        for worker in arena.fleet.running():
            arena.fleet.thaw(worker)
        await arena.servers.mend()
        while arena.load.tasks < size.min_tasks:
            await asyncio.sleep(0.1)
        arena.load.stop()
        arena.say(f"    {arena.load.tasks} tasks, {sum(done)} faults; waiting for their ends …")
        await loading
        await quiet(arena)
    finally:
        for task in (loading, person):
            task.cancel()
        await asyncio.gather(loading, person, return_exceptions=True)
    return {fault.name: count for (fault, _), count in zip(faults, done, strict=True)}


async def inject_all(arena: Arena, fault: Fault, times: int, *, span_seconds: float = 0.0) -> int:
    """How many were injected, over this span or a longer one.

    One that does not come to its end is a finding.
    """
    began = time.monotonic()
    dice = random.Random(f"{fault.name} {arena.dice.random()}")
    injected = 0
    for _ in range(MOST_TRIES * times):
        if injected == times:
            break
        due = began + span_seconds * (injected + dice.random()) / times
        pause = dice.uniform(*fault.pause_seconds)
        await asyncio.sleep(max(pause, due - time.monotonic()))
        try:
            async with arena.lock(fault.touches), asyncio.timeout(INJECT_SECONDS):
                await fault.inject(arena)
        except NothingToBreak:
            continue
        except TimeoutError:
            arena.findings.append(f"{fault.name} number {injected + 1} came to no end in time")
        injected += 1
    return injected


async def _count_deadlocks(arena: Arena) -> None:
    ((deadlocks,),) = await arena.rows_soon(DEADLOCKS)
    if deadlocks:
        arena.findings.append(f"PostgreSQL broke {deadlocks} deadlocks")


async def quiet(arena: Arena) -> None:
    """Returns when every message is read and every task at its end, or nothing moves any more."""
    began = moved = time.monotonic()
    least = math.inf
    async with reading(arena) as consumer:
        while time.monotonic() - moved < STUCK_SECONDS:
            left = await work_left(arena, consumer)
            if left < least:
                least, moved = left, time.monotonic()
            if left == 0:
                break
            await asyncio.sleep(0.25)
    arena.measured[ENDED].append(time.monotonic() - began)


async def work_left(arena: Arena, consumer: AIOKafkaConsumer) -> int:
    """Messages that no worker has read, tasks before their end, and updates to publish.

    Messages first: what one of them leaves behind is there when it counts as read.
    """
    ends = await input_ends(arena, consumer)
    positions = await read_positions(arena)
    unread = sum(max(0, end - positions.get(place, 0)) for place, end in ends.items())
    ((unfinished,),) = await arena.rows_soon(UNFINISHED)
    return unread + int(unfinished)


def _outcome(  # sizes: the one place where everything about a run meets
    faults: Sequence[tuple[Fault, int]],
    injected: Mapping[str, int],
    arena: Arena,
    evidence: Evidence,
    seconds: float,
) -> Outcome:
    again = resent(evidence)
    arena.measured[REPEATED].append(again)
    arena.measured[RESENT].append(100 * again / max(1, len(evidence.sends)))
    arena.measured[TOLD_AGAIN].append(told_again(evidence))
    found = check(evidence)
    # A bar of a class alone: another fault may be what keeps it from going on.
    bars = (*(faults[0][0].bars if len(faults) == 1 else ()), ALL_ENDED)
    if evidence.freezes:
        arena.measured[AT_THAWS].append(sent_at_thaws(evidence))
        bars = (FEW_AT_THAWS, *bars)
    return Outcome(
        name=faults[0][0].name if len(faults) == 1 else MIXED,
        injected=injected,
        tasks=len(evidence.tasks),
        calls=len(evidence.sends),
        resent=again,
        seconds=seconds,
        findings=(*arena.findings, *arena.fleet.deaths, *_shown(found)),
        measured={name: tuple(values) for name, values in arena.measured.items()},
        bars=bars,
    )


def _shown(found: Sequence[Finding]) -> Iterator[str]:
    """The first ones of each invariant: one that is broken must not hide another."""
    by_invariant: dict[str, list[Finding]] = {}
    for finding in found:
        by_invariant.setdefault(finding.invariant, []).append(finding)
    for invariant, findings in sorted(by_invariant.items()):
        yield from map(str, findings[:SHOWN_FINDINGS])
        if len(findings) > SHOWN_FINDINGS:
            yield f"{invariant} … and {len(findings) - SHOWN_FINDINGS} more"
