"""`python -m chaos`: breaks a service under load in every way of the matrix, and looks at the rest.

Each class of faults alone, then all at once, on an Apache Kafka and a PostgreSQL of its own; the
table goes to `docs/reliability.md`. Exit code 0: every bar holds; 1: one is broken; 130: we were
interrupted.
"""

import argparse
import asyncio
import logging
import os
import shutil
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import uvloop

from bench.children import ROOT
from chaos.arena import Servers, Size
from chaos.fault import Fault
from chaos.fleet import running_forge
from chaos.matrix import MATRIX
from chaos.report import as_json, as_markdown, line
from chaos.round import MIXED, Outcome, run_round
from orchestrator.cli.signals import Stop
from orchestrator.local.kafka import LocalKafka
from orchestrator.local.postgres import LocalPostgres
from orchestrator.store.migrations import upgrade

INTERRUPTED = 130
TEMPLATE = "chaos_template"
PAGE = ROOT / "docs" / "reliability.md"
MIXED_TASKS = 6000
SHORT = Size(per_second=15.0, is_short=True)
FULL = Size(per_second=20.0)


@asynccontextmanager
async def own_servers(folder: Path) -> AsyncIterator[Servers]:
    """Started for this run, and gone after it."""
    kafka, postgres = LocalKafka(folder / "kafka", say=say), LocalPostgres(folder / "postgres")
    async with AsyncExitStack() as stack:
        stack.push_async_callback(kafka.stop)
        stack.push_async_callback(postgres.stop)
        say("Starting Apache Kafka, PostgreSQL and the process that forks workers …")
        await asyncio.gather(kafka.start(), postgres.start())
        await asyncio.to_thread(upgrade, await postgres.create_database(TEMPLATE))
        forge = await stack.enter_async_context(running_forge())
        yield Servers(kafka=kafka, postgres=postgres, template=TEMPLATE, forge=forge)


async def run(
    faults: Sequence[Fault], *, folder: Path, size: Size, has_mixed: bool
) -> list[Outcome]:
    """Every class alone, then all at once."""
    outcomes: list[Outcome] = []
    async with own_servers(folder) as servers:
        rounds = [
            (f.name, [(f, f.times.short if size.is_short else f.times.alone)]) for f in faults
        ]
        mixed = [
            (f, f.times.short if size.is_short else f.times.mixed) for f in faults if f.times.mixed
        ]
        if has_mixed:
            rounds.append((MIXED, mixed))
        for number, (name, injected) in enumerate(rounds):
            own = replace(size, seed=size.seed + number)
            if name == MIXED and not size.is_short:
                own = replace(own, min_tasks=MIXED_TASKS)
            say(f"[{number + 1}/{len(rounds)}] {name}, seed {own.seed} …")
            outcome = await run_round(
                servers,
                injected,
                folder=folder / f"{number:02d}-{name}",
                size=own,
                say=say,
            )
            say(line(outcome))
            outcomes.append(outcome)
    return outcomes


async def main(options: argparse.Namespace) -> int:
    # Of an absent broker our own clients would tell every tenth of a second.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    folder = ROOT / ".orchestrator" / f"chaos-{os.getpid()}"
    folder.mkdir(parents=True)
    chosen = [f for f in MATRIX if not options.only or f.name in options.only]
    has_mixed = not options.only or MIXED in options.only
    size = replace(SHORT if options.short else FULL, seed=options.seed)
    keeps = True
    with Stop().listening() as stop:
        try:
            outcomes = await run(
                chosen if options.only != [MIXED] else MATRIX,
                folder=folder,
                size=size,
                has_mixed=has_mixed,
            )
            keeps = not all(outcome.holds for outcome in outcomes)
        except asyncio.CancelledError:
            if not stop.is_asked:
                raise
            keeps = False
            return INTERRUPTED
        finally:
            if keeps:
                say(f"What the workers logged is left in {folder}")
            else:
                shutil.rmtree(folder, ignore_errors=True)
    print(as_markdown(outcomes))
    if options.json is not None:
        options.json.write_bytes(as_json(outcomes))
    if not options.only and not options.short:
        PAGE.write_text(as_markdown(outcomes))
    return 0 if all(outcome.holds for outcome in outcomes) else 1


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    names = [fault.name for fault in MATRIX]
    parser.add_argument(
        "--only", action="append", choices=[*names, MIXED], help="this class alone; may be repeated"
    )
    parser.add_argument("--short", action="store_true", help="a few faults of each class")
    parser.add_argument("--seed", type=int, default=1, help="of the load and the faults")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(uvloop.run(main(_parsed())))
