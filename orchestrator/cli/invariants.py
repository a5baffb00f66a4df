"""`orchestrator invariants`: what must hold of a live system, and what does not."""

from typing import Annotated, Any

import typer

from orchestrator.cli.output import AsJson, console, print_json, printable_block, table
from orchestrator.cli.session import settings_for, with_database
from orchestrator.store import invariants
from orchestrator.store.invariants import Finding

app = typer.Typer(add_completion=False, rich_markup_mode=None)

Deep = Annotated[
    bool,
    typer.Option("--deep", help="Read all journals: for minutes, where there are millions."),
]


@app.command("invariants")
def look(*, deep: Deep = False, as_json: AsJson = False) -> None:
    """Look whether everything holds that must hold; exit 1 if one thing does not."""
    engine = settings_for("database").engine
    found = with_database(
        lambda database: invariants.check(
            database, lease=engine.lease, max_claims=engine.max_claims, is_deep=deep
        )
    )
    broken = [f for f in found if f.violations]
    if as_json:
        print_json({"holds": not broken, "invariants": [_json(f) for f in found]})
    else:
        _show(found, broken)
    if broken:
        raise typer.Exit(1)


def _show(found: list[Finding], broken: list[Finding]) -> None:
    rows = [(f.invariant.name, str(f.violations), f.invariant.meaning) for f in found]
    out = console()
    out.print(table(["INVARIANT", "BROKEN", "BY"], rows))
    for finding in broken:
        lines = "\n".join(f"  {example}" for example in finding.examples)
        out.print(
            f"\n{finding.invariant.name}: {finding.invariant.meaning}\n{printable_block(lines)}"
            f"\n  what to do: {finding.invariant.remedy}"
        )


def _json(finding: Finding) -> dict[str, Any]:
    return {
        "name": finding.invariant.name,
        "violations": finding.violations,
        "meaning": finding.invariant.meaning,
        "remedy": finding.invariant.remedy,
        "examples": list(finding.examples),
    }
