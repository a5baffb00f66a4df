"""`python -m chaos`: breaks a service under load in every way of the matrix, and looks at the rest.

Each class of faults alone, then several at once, on an Apache Kafka and a PostgreSQL of its own;
the table goes to `docs/reliability.md`. Exit code 0: every bar holds; 1: one is broken; 130: we
were interrupted.
"""

import argparse
import asyncio
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import uvloop

from bench.children import ROOT
from chaos.arena import Servers, Size
from chaos.fault import Fault
from chaos.matrix import MATRIX
from chaos.report import as_json, as_page, as_table, from_json, line, whole
from chaos.round import MIXED, Outcome, broken_off, run_round
from chaos.servers import own_servers, say
from orchestrator.cli.signals import Stop

INTERRUPTED = 130
PAGE = ROOT / "docs" / "reliability.md"
SHORT = Size(per_second=15.0, is_short=True)
FULL = Size(per_second=20.0)
MIXED_TASKS = 6000

Round = tuple[str, list[tuple[Fault, int]], Size]


def rounds(only: Sequence[str], size: Size, *, most: int) -> Iterator[Round]:
    """What is run: each chosen class alone, then all that mix; each with a seed of its own.

    `most` bounds how often a fault is injected while it is alone.
    """
    for number, fault in enumerate(MATRIX):
        if not only or fault.name in only:
            times = fault.times.short if size.is_short else fault.times.alone
            yield fault.name, [(fault, min(times, most))], replace(size, seed=size.seed + number)
    if not only or MIXED in only:
        mixed = [
            (f, min(f.times.short, f.times.mixed) if size.is_short else f.times.mixed)
            for f in MATRIX
        ]
        tasks = 0 if size.is_short else MIXED_TASKS
        own = replace(size, seed=size.seed + len(MATRIX), min_tasks=tasks)
        yield MIXED, [(fault, times) for fault, times in mixed if times], own


async def run(
    servers: Servers, planned: Sequence[Round], *, folder: Path, record: Path | None
) -> list[Outcome]:
    """`record` is written after each run: an hour's work is not lost by what comes last."""
    outcomes: list[Outcome] = []
    for number, (name, faults, size) in enumerate(planned, start=1):
        say(f"[{number}/{len(planned)}] {name}, seed {size.seed} …")
        own = folder / f"{number:02d}-{name}"
        try:
            outcome = await run_round(servers, faults, folder=own, size=size, say=say)
        except Exception as error:  # noqa: BLE001 - it is told as what it is: a run that broke
            outcome = broken_off(name, error)
        say(line(outcome))
        outcomes.append(outcome)
        if record is not None:
            record.write_bytes(as_json(outcomes))
    return outcomes


async def main(options: argparse.Namespace) -> int:
    folder = ROOT / ".orchestrator" / f"chaos-{os.getpid()}"
    folder.mkdir(parents=True)
    size = replace(SHORT if options.short else FULL, seed=options.seed)
    size = replace(size, per_second=options.per_second or size.per_second)
    planned = list(rounds(options.only or (), size, most=options.most))
    with Stop().listening() as stop:
        try:
            async with own_servers(folder) as servers:
                outcomes = await run(servers, planned, folder=folder, record=options.json)
                version = servers.postgres_version
        except asyncio.CancelledError:
            if not stop.is_asked:
                raise
            shutil.rmtree(folder, ignore_errors=True)
            return INTERRUPTED
    if all(outcome.holds for outcome in outcomes):
        shutil.rmtree(folder, ignore_errors=True)
    else:
        say(f"What the workers logged is left in {folder}")
    return _tell(outcomes, options, version=version)


def _tell(outcomes: Sequence[Outcome], options: argparse.Namespace, *, version: str) -> int:
    earlier = [o for file in options.after or () for o in from_json(file.read_bytes())]
    # A class that was run again counts as it came out last.
    again = {o.name for o in earlier} & {o.name for o in outcomes}
    outcomes = list({outcome.name: outcome for outcome in (*earlier, *outcomes)}.values())
    is_full = bool(options.after) or not (options.only or options.short)
    bars = whole(outcomes, is_full=is_full)
    print(as_table(outcomes))
    for text, holds in bars:
        print(f"{'holds' if holds else 'BROKEN':>8}  {text}")
    if options.json is not None:
        options.json.write_bytes(as_json(outcomes))
    if is_full:
        PAGE.write_text(as_page(outcomes, postgres=version, again=again))
    return 0 if all(holds for _, holds in bars) else 1


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    names = [fault.name for fault in MATRIX]
    parser.add_argument(
        "--only", action="append", choices=[*names, MIXED], help="this class alone; may be repeated"
    )
    parser.add_argument("--short", action="store_true", help="a few faults of each class")
    parser.add_argument(
        "--most", type=int, default=sys.maxsize, metavar="N", help="faults of a class alone"
    )
    parser.add_argument("--per-second", type=float, help="tasks; 20, or 15 with --short")
    parser.add_argument("--seed", type=int, default=1, help="of the load and the faults")
    parser.add_argument(
        "--after",
        action="append",
        type=Path,
        metavar="FILE",
        help="count what an earlier run left there (--json) too, and write the page",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(uvloop.run(main(_parsed())))
