"""Pausing and resuming agents and models, and what is known of them, for two commands alike."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer

from orchestrator.cli.output import print_json, time_text
from orchestrator.cli.session import cleaned, user
from orchestrator.store import targets
from orchestrator.store.database import Database
from orchestrator.store.notices import Notice, notify
from orchestrator.store.targets import PauseRow, StateRow
from orchestrator.telemetry.log_lines import printable

Reason = Annotated[str, typer.Option(help="Why: shown to whoever asks.", callback=cleaned)]
By = Annotated[str | None, typer.Option(help="Who. [default: the user]", callback=cleaned)]


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetDetails:
    """All that PostgreSQL knows of one agent or model as calls go to it."""

    pause: PauseRow | None
    parked_tasks: int
    """Counted up to 10000."""
    workers: list[StateRow]


async def details(database: Database, target: str) -> TargetDetails:
    return TargetDetails(
        pause=next((p for p in await targets.pauses(database) if p.target == target), None),
        parked_tasks=await targets.parked(database, target),
        workers=await targets.states(database, target),
    )


async def pause(database: Database, target: str, *, by: str | None, reason: str) -> str:
    """Holds it for all workers; answers the outcome."""
    is_new = await targets.pause(database, target, by=user() if by is None else by, reason=reason)
    await notify(database, Notice.AGENTS)
    return "paused" if is_new else "was paused already"


async def resume(database: Database, target: str) -> str:
    """Lets calls go to it again; answers the outcome."""
    was_paused = await targets.resume(database, target)
    await notify(database, Notice.AGENTS)
    return "resumed" if was_paused else "was not paused"


def tell_outcome(kind: str, name: str, outcome: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"id": name, "outcome": outcome})
    else:
        typer.echo(f"{kind} {printable(name)}: {outcome}")


def details_document(found: TargetDetails) -> dict[str, Any]:
    return asdict(found)


def pause_text(pause: PauseRow) -> str:
    reason = f": {pause.reason}" if pause.reason else ""
    who = f" by {pause.by}" if pause.by else ""
    return f"paused{who} since {time_text(pause.at)}{reason}"


def details_lines(found: TargetDetails) -> Iterator[str]:
    """For people: a line for the pause, one for what is parked, one for each worker."""
    yield "not paused" if found.pause is None else pause_text(found.pause)
    yield f"tasks parked for it: {found.parked_tasks}"
    if not found.workers:
        yield "no living worker has called it yet"
    for row in found.workers:
        yield f"worker {row.worker}: {_worker_text(row)}"


def _worker_text(row: StateRow) -> str:
    state = row.state
    breaker = str(state.get("breaker", "")).replace("_", " ")
    until = f" until {state['closed_until']}" if state.get("closed_until") else ""
    why = " (limited)" if state.get("is_limited") else ""
    parts = [
        f"breaker {breaker}{until}{why}",
        f"{state.get('in_flight', 0)} calls in flight",
        f"{state.get('retries_left', 0)} second tries left",
    ]
    if state.get("last_error"):
        parts.append(f"last error {state.get('last_error_at')}: {state['last_error']}")
    return ", ".join(parts)
