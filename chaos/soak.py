"""`python -m chaos.soak --minutes 30`: a steady load with mild faults, in which nothing may grow.

Memory, descriptors, connections, dead rows, sizes and backlogs are looked at again and again; the
trend of each has to be flat. Exit code 0: all are, and the checker found nothing; 1: one is not.
"""

import argparse
import asyncio
import math
import os
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from statistics import median

import uvloop

from bench.children import ROOT
from chaos.arena import Arena, NothingToBreak, Size, open_arena
from chaos.checker import check
from chaos.evidence import gather
from chaos.fault import nothing_more
from chaos.faults import postgres, workers
from chaos.round import quiet
from chaos.servers import own_servers, say, scratch
from orchestrator.cli.signals import Stop

INTERRUPTED = 130
SAMPLES = 120
WARM_UP_SHARE = 1 / 3
"""Of the run: caches fill, pools grow, the database gets its first rows."""
FAULT_SECONDS = 20.0
SIZE = Size(per_second=20.0)

TABLES = """
SELECT (SELECT sum(n_dead_tup) FROM pg_stat_user_tables)::float8 AS "dead rows",
       (SELECT count(*) FROM outbox)::float8 AS "rows of the outbox",
       pg_total_relation_size('outbox') / 1e6::float8 AS "size of the outbox, MB",
       (SELECT count(*) FROM tasks WHERE status IN ('ready', 'running'))::float8
           AS "tasks under way",
       (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
        AND application_name = 'orchestrator')::float8 AS "connections",
       pg_database_size(current_database())::float8 AS bytes,
       (SELECT count(*) FROM tasks)::float8 AS tasks
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """How much a measure may grow from the end of the warm-up on: a share of it, or so much."""

    share: float = 0.1
    amount: float


ALLOWED: Mapping[str, Allowed] = {
    "memory of a worker, MB": Allowed(amount=8),
    "descriptors of a worker": Allowed(amount=5),
    "connections": Allowed(amount=5),
    # Vacuum begins at 5000 in each of the tables that are written most.
    "dead rows": Allowed(amount=15_000),
    "rows of the outbox": Allowed(amount=100),
    "size of the outbox, MB": Allowed(amount=4),
    "tasks under way": Allowed(amount=60),
    "lag, messages": Allowed(amount=100),
    "bytes stored a task": Allowed(amount=1000),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """Of one measure, from the end of the warm-up on."""

    measure: str
    middle: float
    growth: float
    """By the median slope of all pairs, over the whole time: outliers do not bend it."""
    allowed: float

    @property
    def is_flat(self) -> bool:
        return self.growth <= self.allowed


def trend(measure: str, samples: Sequence[tuple[float, float]], allowed: Allowed) -> Trend:
    """`samples` are (seconds, value); what was hardly measured is not called flat."""
    settled = samples[int(len(samples) * WARM_UP_SHARE) :]
    slopes = [(b - a) / (t - s) for (s, a), (t, b) in combinations(settled, 2) if t > s]
    if not slopes:
        return Trend(measure=measure, middle=math.nan, growth=math.inf, allowed=allowed.amount)
    middle = median(value for _, value in settled)
    span = settled[-1][0] - settled[0][0]
    return Trend(
        measure=measure,
        middle=middle,
        growth=median(slopes) * span,
        allowed=max(allowed.amount, allowed.share * middle),
    )


class Watcher:
    """Takes samples; owned by one task."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._began = time.monotonic()
        self._bytes_before: float | None = None
        self.samples: dict[str, list[tuple[float, float]]] = defaultdict(list)

    async def run(self, *, every_seconds: float) -> None:
        while True:
            await self.look()
            await asyncio.sleep(every_seconds)

    async def look(self) -> None:
        row = dict((await self._arena.rows_soon(TABLES))[0])
        stored, tasks = row.pop("bytes"), row.pop("tasks")
        if self._bytes_before is None:
            self._bytes_before = stored
        if tasks > 100:
            row["bytes stored a task"] = (stored - self._bytes_before) / tasks
        steady = [w for w in self._arena.fleet.running() if w.name.startswith("worker-")]
        row["memory of a worker, MB"] = max(w.rss_bytes() for w in steady) / 1e6
        row["descriptors of a worker"] = max(_descriptors(w.pid) for w in steady)
        row["lag, messages"] = await self._lag()
        at = time.monotonic() - self._began
        for measure, value in row.items():
            self.samples[measure].append((at, value))

    async def _lag(self) -> float:
        rows = await self._arena.rows_soon(
            "SELECT sum(next_offset)::float8 AS n FROM kafka_positions"
        )
        return max(0.0, len(self._arena.load.book) - (rows[0]["n"] or 0.0))

    def trends(self) -> list[Trend]:
        return [
            trend(measure, self.samples[measure], allowed) for measure, allowed in ALLOWED.items()
        ]


def _descriptors(pid: int) -> int:
    try:
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except OSError:
        return 0


async def trouble(arena: Arena) -> None:
    """Until cancelled: what a service has to live with on any day."""
    while True:
        for inject in (workers.rebalance, postgres.cut):
            await asyncio.sleep(FAULT_SECONDS)
            with suppress(NothingToBreak):
                await inject(arena)


async def soak(arena: Arena, *, minutes: float) -> tuple[list[Trend], list[str]]:
    """The trends, and what the checker found afterwards."""
    watcher, seconds = Watcher(arena), minutes * 60
    async with asyncio.TaskGroup() as group:
        loading = group.create_task(arena.load.run())
        others = [
            group.create_task(arena.load.be_the_person(arena.waiting_for_a_person)),
            group.create_task(watcher.run(every_seconds=seconds / SAMPLES)),
            group.create_task(trouble(arena)),
        ]
        for minute in range(int(minutes)):
            await asyncio.sleep(60)
            say(f"minute {minute + 1} of {minutes:g}: {arena.load.tasks} tasks")
        await asyncio.sleep(seconds - 60 * int(minutes))
        arena.load.stop()
        await loading
        others[1].cancel()
        await quiet(arena)
        for other in others:
            other.cancel()
    found = [str(finding) for finding in check(await gather(arena))]
    return watcher.trends(), [*arena.findings, *arena.fleet.deaths, *found]


async def main(options: argparse.Namespace) -> int:
    with Stop().listening() as stop:
        try:
            async with (
                scratch(ROOT / ".orchestrator" / f"soak-{os.getpid()}") as folder,
                own_servers(folder) as servers,
                open_arena(
                    servers,
                    folder,
                    size=replace(SIZE, seed=options.seed),
                    environ={},
                    prepare=nothing_more,
                ) as arena,
            ):
                trends, findings = await soak(arena, minutes=options.minutes)
                tasks = arena.load.tasks
        except asyncio.CancelledError:
            if not stop.is_asked:
                raise
            return INTERRUPTED
    return _tell(trends, findings, tasks=tasks)


def _tell(trends: Sequence[Trend], findings: Sequence[str], *, tasks: int) -> int:
    print(f"{tasks} tasks; from the end of the first third on:\n")
    print(f"{'measure':<26}{'middle':>12}{'growth':>12}{'allowed':>12}")
    for each in trends:
        verdict = "" if each.is_flat else "  GROWS"
        print(
            f"{each.measure:<26}{each.middle:>12.1f}{each.growth:>12.1f}"
            f"{each.allowed:>12.1f}{verdict}"
        )
    for finding in findings:
        print(finding)
    return 0 if all(each.is_flat for each in trends) and not findings else 1


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1, help="of the load")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(uvloop.run(main(_parsed())))
