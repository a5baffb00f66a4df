"""Named places in a worker at which it can be made to die: before and after whatever matters.

The product knows nothing of them: `crashing_worker` puts a wrapper around each seam.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.domain.task import TaskStatus
from orchestrator.store.journal import Entry

Matches = Callable[[tuple[Any, ...]], bool]


def _always(_: tuple[Any, ...]) -> bool:
    return True


def _journals(kind: str) -> Matches:
    """Whether a batch of the journal has a step of this kind."""

    def matches(arguments: tuple[Any, ...]) -> bool:
        entries: Sequence[Entry] = arguments[-1]
        return any(step.body.kind == kind for entry in entries for step in entry.steps)

    return matches


def _rests(*, at_the_end: bool) -> Matches:
    def matches(arguments: tuple[Any, ...]) -> bool:
        entries: Sequence[Entry] = arguments[-1]
        rests = [entry.rest.status for entry in entries if entry.rest is not None]
        return any((status is TaskStatus.WAITING) != at_the_end for status in rests)

    return matches


STOP, LEAD = "stop", "lead"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seam:
    """A coroutine function of the product; a crash comes before or after one of its passages."""

    name: str
    module: str
    attribute: str
    """Dotted where it is a method."""
    matches: Matches = _always
    """Which passages count, by their arguments."""
    needs: str | None = None
    """`STOP`: only a worker that was asked to end comes here; `LEAD`: only the relay's leader."""
    is_rare: bool = False
    """Passed once in a worker's life, or seldom."""


_STORE, _BUS = "orchestrator.store.postgres", "orchestrator.bus"


def _store(method: str, name: str, **more: Any) -> Seam:
    return Seam(name=name, module=_STORE, attribute=f"PostgresStore.{method}", **more)


SEAMS: tuple[Seam, ...] = (
    # From Kafka to the first step.
    Seam(
        name="positions are read",
        module="orchestrator.store.positions",
        attribute="read",
        is_rare=True,
    ),
    Seam(name="messages are read", module=f"{_BUS}.polling", attribute="Polling.poll"),
    Seam(name="T1 messages and position", module=f"{_BUS}.ingest", attribute="ingest"),
    Seam(name="offsets are mirrored", module=f"{_BUS}.mirror", attribute="Mirror._commit_waiting"),
    # A worker among others.
    _store("register", "a worker registers", is_rare=True),
    _store("heartbeat", "T4 a heartbeat"),
    _store("reap", "T5 tasks of the dead"),
    _store("claim", "T2 a claim"),
    _store("load", "a claimed task is loaded"),
    # A task.
    Seam(
        name="the model is asked",
        module="orchestrator.planners.agentic.planner",
        attribute="AgenticPlanner.plan",
    ),
    _store("journal", "T3 a decision", matches=_journals("decision")),
    Seam(
        name="an agent is called",
        module="orchestrator.agents.callers.http_json",
        attribute="HttpCaller.call",
    ),
    _store(
        "journal", "T3 a call that is made once", matches=_journals("call_started"), is_rare=True
    ),
    _store("journal", "T3 a result", matches=_journals("result")),
    _store("journal", "T3 an event", matches=_journals("event")),
    _store("journal", "T3 a rest", matches=_rests(at_the_end=False)),
    _store("journal", "T3 an end", matches=_rests(at_the_end=True)),
    # To Kafka.
    Seam(name="the relay leads", module="orchestrator.store.workers", attribute="lead"),
    Seam(
        name="the outbox is read",
        module="orchestrator.store.outbox",
        attribute="next_rows",
        needs=LEAD,
    ),
    Seam(name="updates are produced", module=f"{_BUS}.topic_queue", attribute="ship", needs=LEAD),
    Seam(name="a partition's batch", module=f"{_BUS}.shipment", attribute="_send", needs=LEAD),
    Seam(
        name="T6 what is published is deleted",
        module="orchestrator.store.outbox",
        attribute="delete",
        needs=LEAD,
    ),
    # A gentle end.
    _store("leave", "a worker leaves", needs=STOP, is_rare=True),
)

BEFORE, AFTER = "before", "after"


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    when: str
    seam: Seam

    @property
    def name(self) -> str:
        return f"{self.when}: {self.seam.name}"


POINTS: tuple[Point, ...] = tuple(
    Point(when=when, seam=seam) for seam in SEAMS for when in (BEFORE, AFTER)
)


def point(name: str) -> Point:
    """The point of this name."""
    for found in POINTS:
        if found.name == name:
            return found
    raise ValueError(f"{name!r} is no crash point: expected one of {[p.name for p in POINTS]}")
