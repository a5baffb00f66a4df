"""Outcomes as a line for the terminal, as a page for `docs/`, and as JSON for programs."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from statistics import median

import orjson

from bench.report import machine
from chaos.fault import REPEATED, Bar
from chaos.faults import crash_points
from chaos.matrix import MATRIX, NOT_RUN
from chaos.round import MIXED, Outcome
from orchestrator.local.kafka_jars import read_lock

NEEDED: Mapping[str, int] = {
    "worker-killed": 300,
    "worker-frozen": 100,
    "postgres-crashed": 50,
    "broker-crashed": 20,
    "postgres-cut": 200,
    "rebalance-storm": 60,
}
"""How often a whole run injects each of these, alone and mixed together, at least."""
NEEDED_TASKS = 20_000
MOST_RESENT_PERCENT = 1.0
IN_CALLS = crash_points.FAULT.name
"""Its workers die in the middle of calls on purpose: its calls do not count to that bar."""

PAGE = Path(__file__).resolve().parent / "page.md"
"""The page with gaps for figures."""

HEAD = (
    "| fault | how injected | times | tasks | bar | result |\n| --- | --- | --- | --- | --- | --- |"
)


def line(outcome: Outcome) -> str:
    """What a run came to, findings below it."""
    words = "holds" if outcome.holds else "BROKEN"
    head = (
        f"    {words}: {sum(outcome.injected.values())} faults, {outcome.tasks} tasks, "
        f"{outcome.seconds:.0f} s; {_result(outcome)}"
    )
    return "\n".join([head, *(f"      {finding}" for finding in outcome.findings)])


def whole(outcomes: Sequence[Outcome], *, is_full: bool) -> list[tuple[str, bool]]:
    """The bars of all runs together, and whether each holds."""
    violations, tasks = sum(len(o.findings) for o in outcomes), sum(o.tasks for o in outcomes)
    bars = [
        (f"violations: {violations} (0)", violations == 0),
        (
            f"bars of classes that are broken: {_broken_bars(outcomes)} (0)",
            not _broken_bars(outcomes),
        ),
    ]
    resent = _resent_share(outcomes)
    if not is_full:
        return [*bars, (f"calls sent again: {resent:.2f} %", True)]
    others = _resent_share([o for o in outcomes if o.name != IN_CALLS])
    counts = {name: sum(o.injected.get(name, 0) for o in outcomes) for name in NEEDED}
    return [
        *bars,
        (
            f"calls sent again: {others:.2f} % (≤ {MOST_RESENT_PERCENT:g} %); with {IN_CALLS}, "
            f"where workers die in the middle of calls on purpose: {resent:.2f} %",
            others <= MOST_RESENT_PERCENT,
        ),
        (f"tasks: {tasks} (≥ {NEEDED_TASKS})", tasks >= NEEDED_TASKS),
        *((f"{name}: {counts[name]} (≥ {n})", counts[name] >= n) for name, n in NEEDED.items()),
    ]


def _resent_share(outcomes: Sequence[Outcome]) -> float:
    """In percent of all calls."""
    return 100 * sum(o.resent for o in outcomes) / max(1, sum(o.calls for o in outcomes))


def _broken_bars(outcomes: Sequence[Outcome]) -> int:
    return sum(len(outcome.broken) for outcome in outcomes)


def as_page(
    outcomes: Sequence[Outcome], *, postgres: str, again: Collection[str] = frozenset()
) -> str:
    """`docs/reliability.md`; `again` are classes that were run once more after a mend."""
    minutes = sum(o.seconds for o in outcomes) / 60
    mended = (
        f" Run again after the others, and told as it came out then: {', '.join(sorted(again))}."
    )
    bars = whole(outcomes, is_full=True)
    return PAGE.read_text().format(
        facts=f"{_facts(postgres)}; {minutes:.0f} minutes of runs." + (mended if again else ""),
        whole="\n".join(f"- {text}{'' if holds else ' **broken**'}" for text, holds in bars),
        table=as_table(outcomes),
        not_run="\n".join(f"| {name} | {why} |" for name, why in (*_left_out(outcomes), *NOT_RUN)),
    )


def _left_out(outcomes: Sequence[Outcome]) -> list[tuple[str, str]]:
    run = {outcome.name for outcome in outcomes}
    why = 'not in these runs: `make chaos ARGS="--only {}"`; seconds of it are in `make test`'
    return [(fault.name, why.format(fault.name)) for fault in MATRIX if fault.name not in run]


def _facts(postgres: str) -> str:
    found = machine(postgres=postgres, kafka=read_lock().kafka_version)
    return (
        f"Measured on {found['cores']} cores ({found['system']}), Python {found['python']}, "
        f"PostgreSQL {found['postgresql']}, Apache Kafka {found['kafka']}"
    )


def as_table(outcomes: Sequence[Outcome]) -> str:
    injected = {fault.name: fault.injected for fault in MATRIX} | {MIXED: "these at once"}
    rows = [
        f"| {o.name} | {injected[o.name]} | {_times(o)} | {o.tasks} | {_bars(o)} | {_result(o)} |"
        for o in outcomes
    ]
    return "\n".join([HEAD, *rows])


def _times(outcome: Outcome) -> str:
    if len(outcome.injected) == 1:
        return str(sum(outcome.injected.values()))
    return ", ".join(f"{count} {name}" for name, count in outcome.injected.items())


def _bars(outcome: Outcome) -> str:
    own = (f"{bar.measure} ≤ {bar.at_most:g}" for bar in outcome.bars)
    return "; ".join(["0 violations", *own])


def _result(outcome: Outcome) -> str:
    parts = [f"{len(outcome.findings)} violations"]
    measures = dict.fromkeys([*(bar.measure for bar in outcome.bars), *outcome.measured])
    for measure in measures:
        values = outcome.measured.get(measure, ())
        if measure != REPEATED or measure in {bar.measure for bar in outcome.bars}:
            parts.append(f"{measure} {_spread(values)}{_broken(outcome, measure)}")
    return "; ".join(parts)


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "not measured"
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"median {median(values):.2f}, most {max(values):.2f}"


def _broken(outcome: Outcome, measure: str) -> str:
    return " **broken**" if any(bar.measure == measure for bar in outcome.broken) else ""


def as_json(outcomes: Sequence[Outcome]) -> bytes:
    return orjson.dumps(
        [
            {
                "name": o.name,
                "holds": o.holds,
                "injected": o.injected,
                "tasks": o.tasks,
                "calls": o.calls,
                "calls_sent_again": o.resent,
                "seconds": round(o.seconds, 1),
                "findings": o.findings,
                "measured": o.measured,
                "bars": [_bar(bar, o) for bar in o.bars],
            }
            for o in outcomes
        ],
        option=orjson.OPT_INDENT_2,
    )


def from_json(text: bytes) -> list[Outcome]:
    """What `as_json` was given."""
    return [
        Outcome(
            name=o["name"],
            injected=o["injected"],
            tasks=o["tasks"],
            calls=o["calls"],
            resent=o["calls_sent_again"],
            seconds=o["seconds"],
            findings=tuple(o["findings"]),
            measured={measure: tuple(values) for measure, values in o["measured"].items()},
            bars=tuple(Bar(measure=b["measure"], at_most=b["at_most"]) for b in o["bars"]),
        )
        for o in orjson.loads(text)
    ]


def _bar(bar: Bar, outcome: Outcome) -> dict[str, object]:
    return {"measure": bar.measure, "at_most": bar.at_most, "holds": bar not in outcome.broken}
