"""`python -m bench`: the durable service beside the loop that keeps nothing, in the same run.

The sides take turns, because a machine drifts. Exit code 0: the bars hold; 1: one is missed, or a
side did not do the workload; 130: interrupted.
"""

import argparse
import asyncio
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import uvloop

from bench.children import ROOT, Child, child
from bench.commits import commits_between
from bench.figures import LEAN, PRODUCT, STOCK, Commits, Figures, Round
from bench.product import Service, get, service
from bench.report import as_json, machine, show
from bench.workload import Counts, WrongWork, check
from orchestrator.cli.signals import Stop
from orchestrator.domain.json import JsonObject
from orchestrator.local.kafka_jars import read_lock
from orchestrator.local.stack import LocalServers

INTERRUPTED = 130


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is measured."""

    rounds: int
    seconds: float
    """After so long no further round begins: a busy machine gives fewer of them."""
    tasks: int
    """Of a round of the product and of the bare loop."""
    stock_tasks: int
    alone: int
    warm_up: int


FULL = Size(rounds=7, seconds=120, tasks=800, stock_tasks=150, alone=400, warm_up=800)
QUICK = Size(rounds=3, seconds=15, tasks=120, stock_tasks=40, alone=200, warm_up=150)
MIN_ROUNDS = 2
BARE_ALONE = 100


class Sides:
    """Everything that runs, and the numbers of tasks, which are never used twice."""

    def __init__(self, *, stub_url: str, product: Service, bare: dict[str, Child]) -> None:
        self._stub_url = stub_url
        self._product = product
        self._bare = bare
        self._next = 1

    async def round(self, side: str, tasks: int) -> Round:
        """Raises `WrongWork` where the stubs counted something else than the workload."""
        numbers = self._numbers(tasks)
        if side == PRODUCT:
            done = await self._product.round(numbers)
        else:
            said = await self._bare[side].ask(_asked(numbers, alone=False))
            seconds, cpu = said["seconds"], said["cpu_seconds"]
            done = Round(side=side, tasks=tasks, seconds=seconds, cpu_seconds={"loop": cpu})
        await self._report(side, tasks)
        return done

    async def first_bytes(self, side: str, tasks: int) -> tuple[float, ...]:
        """Milliseconds from a task's begin to the first byte of its first prompt, one by one."""
        numbers = self._numbers(tasks)
        if side == PRODUCT:
            began = await self._product.alone(numbers)
        else:
            began = (await self._bare[side].ask(_asked(numbers, alone=True)))["began"]
        arrived = await self._report(side, tasks)
        return tuple((arrived[number] - at) / 1e6 for number, at in began.items())

    async def metrics(self) -> str:
        return await self._product.metrics()

    def _numbers(self, tasks: int) -> range:
        first, self._next = self._next, self._next + tasks
        return range(first, first + tasks)

    async def _report(self, side: str, tasks: int) -> dict[str, int]:
        said = orjson.loads(await asyncio.to_thread(get, f"{self._stub_url}/report"))
        check(Counts(**said["counts"]), tasks=tasks, side=side)
        arrivals: dict[str, int] = said["arrivals"]
        return arrivals


def _asked(numbers: range, *, alone: bool) -> dict[str, Any]:
    return {"first": numbers.start, "tasks": len(numbers), "alone": alone}


@asynccontextmanager
async def _sides(servers: LocalServers, data_dir: Path) -> AsyncIterator[Sides]:
    async with AsyncExitStack() as stack:
        stub = await stack.enter_async_context(child("bench.stub"))
        stub_url = f"http://127.0.0.1:{(await stub.hear())['port']}"
        bare = {
            side: await stack.enter_async_context(child("bench.bare", side, stub_url))
            for side in (LEAN, STOCK)
        }
        product = await stack.enter_async_context(
            service(servers, data_dir=data_dir, stub_url=stub_url)
        )
        for each in bare.values():
            await each.hear()
        yield Sides(stub_url=stub_url, product=product, bare=bare)


async def measure(size: Size) -> Figures:
    """Runs everything and stops it again."""
    # Beside the project's other local data, not in /tmp, which may be memory: commits cost there.
    data_dir = ROOT / ".orchestrator" / f"bench-{os.getpid()}"
    data_dir.mkdir(parents=True)
    os.chdir(data_dir)  # the worker would read the user's own .env from the present folder
    servers = LocalServers(data_dir, say=_say)
    try:
        _say("Starting Apache Kafka, PostgreSQL, a worker, two bare loops and the stubs …")
        await servers.start()
        assert servers.postgres is not None
        facts = machine(
            postgres=await servers.postgres.execute("SHOW server_version"), kafka=_kafka_version()
        )
        async with _sides(servers, data_dir) as sides:
            return await _measure(sides, size, facts)
    finally:
        await servers.stop()
        os.chdir(ROOT)
        shutil.rmtree(data_dir, ignore_errors=True)


async def _measure(sides: Sides, size: Size, facts: JsonObject) -> Figures:
    tasks = {PRODUCT: size.tasks, LEAN: size.tasks, STOCK: size.stock_tasks}
    _say("Warming up …")
    # A whole round of the product: its connections, their plans and the broker's code get warm.
    for side in tasks:
        await sides.round(side, size.stock_tasks if side == STOCK else size.warm_up)
    rounds: list[Round] = []
    before, began = await sides.metrics(), time.monotonic()
    for number in range(size.rounds):
        if number >= MIN_ROUNDS and time.monotonic() - began > size.seconds:
            break
        for side, count in tasks.items():
            rounds.append(await sides.round(side, count))
        last = ", ".join(f"{r.side} {r.rate:.0f}" for r in rounds[-len(tasks) :])
        _say(f"Round {number + 1} of {size.rounds}, tasks/s: {last}")
    commits: Commits | None = commits_between(before, await sides.metrics())
    _say(f"{size.alone} tasks alone, one after the other …")
    return Figures(
        machine=facts,
        rounds=tuple(rounds),
        first_byte_ms=await sides.first_bytes(PRODUCT, size.alone),
        bare_first_byte_ms=await sides.first_bytes(LEAN, BARE_ALONE),
        commits=commits,
    )


def _kafka_version() -> str:
    return read_lock().kafka_version


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


async def main(options: argparse.Namespace) -> int:
    with Stop().listening() as stop:
        try:
            figures = await measure(QUICK if options.quick else FULL)
        except WrongWork as error:
            _say(str(error))
            return 1
        except asyncio.CancelledError:
            if not stop.is_asked:
                raise
            return INTERRUPTED
    show(figures)
    if options.json is not None:
        options.json.write_bytes(as_json(figures))
    return 0 if options.no_bars or all(holds for _, holds in figures.bars()) else 1


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="within a minute, less exact")
    parser.add_argument("--no-bars", action="store_true", help="measure only: exit code 0")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parsed = parser.parse_args()
    parsed.json = parsed.json and parsed.json.resolve()
    return parsed


if __name__ == "__main__":
    sys.exit(uvloop.run(main(_parsed())))
