"""`orchestrator tasks history`: who decided what, when, why and at what cost, step by step (pure).

What the journal calls a step is read for people here; nothing is asked of PostgreSQL.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import singledispatch

from rich.table import Table

from orchestrator.cli.calls_made import calls_made
from orchestrator.cli.output import duration_text, shortened, table, time_text
from orchestrator.cli.task_view import cost_text, tokens_text
from orchestrator.domain.call import CallStatus
from orchestrator.domain.decision import Complete, Delegate, Fail, Wait
from orchestrator.domain.errors import UnreadableJournal
from orchestrator.domain.event import GIVEN, URGENT, told_by
from orchestrator.domain.json import JsonObject
from orchestrator.domain.step import (
    Accepted,
    AttemptFailed,
    BudgetSpent,
    CallFinished,
    CallParked,
    CallStarted,
    Cancelled,
    Compensating,
    Completed,
    Decided,
    EventApplied,
    Failed,
    Forked,
    Rested,
    Retried,
    StepBody,
    load_body,
)
from orchestrator.store.history import StepRow

Told = tuple[str, str, str]

WHY_LENGTH, WHAT_LENGTH = 100, 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """A step, as a person asks about it."""

    seq: int
    at: datetime
    kind: str
    who: str
    what: str
    why: str
    agent: str | None
    attempt: int | None
    model: str | None
    input_tokens: int | None
    output_tokens: int | None
    cost: float | None
    duration_ms: int | None
    epoch: int
    """Under which the step was written: each change of worker is a new one. 0: copied by a fork."""
    change: JsonObject | None


def happening(step: StepRow, *, epoch: int) -> Happening:
    who, what, why = _told(step)
    model = step.body.get("model")
    return Happening(
        seq=step.seq,
        at=step.at,
        kind=step.kind,
        who=who,
        what=what,
        why=why,
        agent=step.agent,
        attempt=step.attempt if _is_measured(step) else None,
        model=str(model) if model else None,
        input_tokens=step.input_tokens,
        output_tokens=step.output_tokens,
        cost=step.cost,
        duration_ms=step.duration_ms if _is_measured(step) else None,
        epoch=epoch,
        change=step.change,
    )


def _is_measured(step: StepRow) -> bool:
    """False of a result that no call brought: it was cut, or never made, or a message has it.

    Its body has the time 0 then, and a number of a try that perhaps nobody made.
    """
    return step.kind != CallFinished.kind or bool(step.duration_ms)


def _told(step: StepRow) -> Told:
    """Who, what and why; a kind that this release does not know keeps its own word."""
    try:
        return _of(load_body(step.kind, step.body))
    except UnreadableJournal:
        return "engine", step.kind, step.summary or ""


@singledispatch
def _of(body: StepBody) -> Told:
    return "engine", body.kind, ""


@_of.register
def _(body: Accepted) -> Told:
    return body.source or "a message", "the task", body.description


@_of.register
def _(body: EventApplied) -> Told:
    # What people tell tasks has these; of any other event they are data.
    said = body.payload if body.event_type in (*URGENT, GIVEN) else {}
    who, reason = told_by(said, body.source), said.get("reason")
    about = "" if body.call is None else f" about call {body.step}/{body.call}"
    return who or body.source or "engine", f"event {body.event_type}{about}", str(reason or "")


@_of.register
def _(body: Decided) -> Told:
    said = body.message.text if body.message is not None else ""
    if body.message is not None and body.message.kept is not None and body.message.kept.cut:
        said = f"{said} (of the answer not kept: {'; '.join(body.message.kept.cut)})".lstrip()
    match body.decision:
        case Delegate(calls=calls):
            what, why = f"call {', '.join(c.agent for c in calls)}" if calls else "look again", ""
        case Wait(waiting_for=why):
            what = "wait"
        case Complete():
            what, why = "complete", ""
        case Fail(reason=why):
            what = "fail"
    return body.model or "planner", what, said or why


@_of.register
def _(body: CallStarted) -> Told:
    what = f"call {body.step}/{body.call} of {body.agent} goes out"
    return "engine", what, "from here on it may have its effect"


@_of.register
def _(body: CallFinished) -> Told:
    call = f"call {body.step}/{body.call} of {body.agent}"
    if body.status is CallStatus.ACCEPTED and body.until is None and body.error:
        # The agent accepted nothing, or there were a time until which its answer is waited for.
        return "engine", f"{call}: outcome unknown", f"waits for {body.error}"
    what = f"{call}: {body.status}"
    return body.by or body.agent, what, body.reason or body.error or ""


@_of.register
def _(body: AttemptFailed) -> Told:
    return body.agent or "model", f"try {body.attempt} failed", body.error


@_of.register
def _(body: CallParked) -> Told:
    return "engine", f"{body.agent or 'model'} is parked", body.reason


@_of.register
def _(body: BudgetSpent) -> Told:
    return "planner", f"no {body.resource} left for a turn", f"it may need {body.needed}"


@_of.register
def _(body: Rested) -> Told:
    return "engine", "rest", f"waits for {body.waiting_for}"


@_of.register
def _(body: Completed) -> Told:
    return body.by, "completed", ""


@_of.register
def _(body: Failed) -> Told:
    return body.code, "failed", _with_effects(body)


@_of.register
def _(body: Cancelled) -> Told:
    return body.by or "a message", "cancelled", _with_effects(body)


@_of.register
def _(body: Retried) -> Told:
    return body.by or "a person", "sent it back to work", body.reason


@_of.register
def _(body: Forked) -> Told:
    return body.by or "a person", f"forked from {body.task}, step {body.step}", body.reason


@_of.register
def _(body: Compensating) -> Told:
    what = ", ".join(f"call {undo.step}/{undo.call} by {undo.agent}" for undo in body.undo)
    return "engine", f"undo {what}", f"{body.status}: {body.reason}"


def _with_effects(body: Failed | Cancelled) -> str:
    undone = [f"{u.step}/{u.call} of {u.agent}" for u in body.compensated if u.is_undone]
    kept = [
        f"{u.step}/{u.call} of {u.agent} ({u.note})" for u in body.compensated if not u.is_undone
    ]
    parts = (
        body.reason,
        f"may have had an effect: {', '.join(body.unknown)}" if body.unknown else "",
        f"undone: {', '.join(undone)}" if undone else "",
        f"not undone: {', '.join(kept)}" if kept else "",
    )
    return "; ".join(part for part in parts if part)


def history_table(steps: Sequence[Happening], rows: Sequence[StepRow]) -> Table:
    return table(
        ("#", "TIME", "WHO", "WHAT", "WHY", "TRY", "TOOK", "TOKENS", "COST", "EPOCH"),
        (
            (
                str(step.seq),
                time_text(step.at),
                shortened(step.who, 40),
                shortened(step.what, WHAT_LENGTH),
                shortened(step.why, WHY_LENGTH),
                _figure(step, None if step.attempt is None else str(step.attempt)),
                _figure(step, _took(step)),
                tokens_text(row),
                cost_text(step.cost),
                str(step.epoch),
            )
            for step, row in zip(steps, rows, strict=True)
        ),
    )


def _figure(step: Happening, text: str | None) -> str:
    """A dash where a call has none: a false one would be believed."""
    return text or ("-" if step.kind == CallFinished.kind else "")


def _took(step: Happening) -> str | None:
    return None if step.duration_ms is None else duration_text(step.duration_ms / 1000)


def totals(steps: Sequence[Happening], rows: Sequence[StepRow]) -> dict[str, int | float]:
    """What the task's turns and calls came to; what a fork copied is the other task's."""
    own = [step for step in steps if step.epoch > 0 or step.kind == "forked"]
    numbers = {step.seq for step in own}
    return {
        "decisions": sum(step.kind == "decision" for step in own),
        "calls": calls_made(row for row in rows if row.seq in numbers),
        "input_tokens": sum(step.input_tokens or 0 for step in own),
        "output_tokens": sum(step.output_tokens or 0 for step in own),
        "cost": round(sum(step.cost or 0.0 for step in own), 6),
        "failed_tries": sum(step.kind == "attempt_failed" for step in own),
    }
