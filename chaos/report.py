"""Outcomes as a line for the terminal, as a page for `docs/`, and as JSON for programs."""

from collections.abc import Sequence
from statistics import median

import orjson

from chaos.fault import RESENT, Bar
from chaos.matrix import MATRIX
from chaos.round import MIXED, Outcome

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


def as_markdown(outcomes: Sequence[Outcome]) -> str:
    injected = {fault.name: fault.injected for fault in MATRIX} | {MIXED: "all of these at once"}
    rows = [
        f"| {o.name} | {injected[o.name]} | {_times(o)} | {o.tasks} | {_bars(o)} | {_result(o)} |"
        for o in outcomes
    ]
    return "\n".join([HEAD, *rows]) + "\n"


def _times(outcome: Outcome) -> str:
    if len(outcome.injected) == 1:
        return str(sum(outcome.injected.values()))
    return ", ".join(f"{count} {name}" for name, count in outcome.injected.items())


def _bars(outcome: Outcome) -> str:
    return "; ".join(f"{bar.measure} ≤ {bar.at_most:g}" for bar in outcome.bars)


def _result(outcome: Outcome) -> str:
    parts = [f"{len(outcome.findings)} violations"]
    measures = dict.fromkeys([*(bar.measure for bar in outcome.bars), RESENT])
    for measure in measures:
        values = outcome.measured.get(measure, ())
        if values:
            parts.append(f"{measure} {_spread(values)}{_broken(outcome, measure)}")
    return "; ".join(parts)


def _spread(values: Sequence[float]) -> str:
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
                "seconds": round(o.seconds, 1),
                "findings": o.findings,
                "measured": o.measured,
                "bars": [_bar(bar, o) for bar in o.bars],
            }
            for o in outcomes
        ],
        option=orjson.OPT_INDENT_2,
    )


def _bar(bar: Bar, outcome: Outcome) -> dict[str, object]:
    return {"measure": bar.measure, "at_most": bar.at_most, "holds": bar not in outcome.broken}
