"""The figures as a table for people and as JSON for programs."""

import math
import os
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import version
from statistics import median

import orjson
from rich import box
from rich.console import Console
from rich.table import Table

from bench.figures import LEAN, PRODUCT, SIDES, STOCK, Figures, Round, percentile
from bench.workload import CALLS, CONCURRENCY, TURNS
from orchestrator.domain.json import JsonObject

LIBRARIES = ("aiohttp", "aiokafka", "asyncpg", "httpx", "langchain-core", "langchain-openai")


def machine(*, postgres: str, kafka: str) -> JsonObject:
    """Where and with what this was measured."""
    return {
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "postgresql": postgres,
        "kafka": kafka,
        "libraries": {name: version(name) for name in (*LIBRARIES, "openai", "uvloop")},
    }


def show(figures: Figures) -> None:
    """Prints everything that a person wants to know."""
    console = Console(file=sys.stdout, highlight=False, width=max(100, Console().width))
    facts = figures.machine
    console.print(
        f"\nA task is {TURNS} chat turns and {CALLS} agent calls, without think time; "
        f"{CONCURRENCY} at a time.\n{facts['cores']} cores (load {facts['load']} at the start), "
        f"{facts['system']}, Python {facts['python']}, "
        f"PostgreSQL {facts['postgresql']}, Kafka {facts['kafka']}"
    )
    console.print(_throughput(figures))
    console.print(_ratios(figures))
    console.print(_latency(figures))
    for text, holds in figures.bars():
        console.print(f"{'holds' if holds else 'MISSED':>7}  {text}")


def _throughput(figures: Figures) -> Table:
    table = Table(box=box.SIMPLE, title_justify="left")
    table.add_column("medians; CPU a task", no_wrap=True)
    for name in ("tasks/s", "lowest", "highest"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("worker", "PostgreSQL", "Kafka", "all"):
        table.add_column(f"CPU ms\n{name}", justify="right", no_wrap=True)
    for side, title in SIDES.items():
        rounds = figures.of(side)
        rates = [r.rate for r in rounds]
        table.add_row(
            title, *(f"{x:.0f}" for x in (median(rates), min(rates), max(rates))), *_cpu(rounds)
        )
    return table


def _cpu(rounds: Sequence[Round]) -> list[str]:
    parts = [median(r.cpu_ms(name) for r in rounds) for name in ("loop", "postgres", "kafka")]
    known = [part for part in parts if not math.isnan(part)]
    return [_number(part) for part in (*parts, sum(known) if known else math.nan)]


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2f}"


def _ratios(figures: Figures) -> str:
    lines = []
    for side in (LEAN, STOCK):
        each = " ".join(f"{ratio:.2f}" for ratio in figures.ratios(side))
        lines.append(f"{figures.ratio(side):.2f} of the tasks/s of: {SIDES[side]} ({each})")
    return "\n".join(lines)


def _latency(figures: Figures) -> str:
    lines = []
    for title, values in (
        ("ingest to first LLM byte, idle", figures.first_byte_ms),
        ("  of which the model's client", figures.bare_first_byte_ms),
    ):
        p50, p99 = percentile(values, 50), percentile(values, 99)
        lines.append(f"{title}: p50 {p50:.1f} ms, p99 {p99:.1f} ms ({len(values)} tasks)")
    commits = figures.commits
    if commits is not None:
        lines.append(
            f"journal commit under load: p50 {commits.p50_ms:.1f} ms, p99 {commits.p99_ms:.1f} ms, "
            f"{commits.steps_each:.1f} steps each"
        )
    return "\n".join(lines) + "\n"


def as_json(figures: Figures) -> bytes:
    """Everything that was measured, and what it comes to."""
    commits = figures.commits
    return orjson.dumps(
        {
            "machine": figures.machine,
            "tasks_per_second": {side: figures.rate(side) for side in SIDES},
            "cpu_ms_per_task": {
                side: {name: figures.cpu_ms(side, name) for name in ("loop", "postgres", "kafka")}
                for side in SIDES
            },
            "ratio": {side: figures.ratio(side) for side in SIDES if side != PRODUCT},
            "first_byte_ms": _percentiles(figures.first_byte_ms),
            "bare_first_byte_ms": _percentiles(figures.bare_first_byte_ms),
            "journal_commit": commits,
            "bars": [{"bar": text, "holds": holds} for text, holds in figures.bars()],
            "rounds": figures.rounds,
        },
        option=orjson.OPT_INDENT_2,
    )


def _percentiles(values: Sequence[float]) -> JsonObject:
    return {f"p{percent}": percentile(values, percent) for percent in (50, 90, 99)}
