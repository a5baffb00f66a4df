"""A class of faults: what it is called, what it does to a running service, and its bars.

How to add one: a module in `chaos/faults/` that makes a `Fault`, and its name in `chaos/matrix.py`.
`inject` is one fault from its begin to its end, mending included: it is given the `Arena` (workers,
servers, load, a seeded die) and is awaited `Times` times with pauses in between, alone in a run of
its own and, unless it says otherwise, together with all others in the mixed run, where the pauses
are such that all classes last equally long. After each run the checker looks for violations of I1
to I8, which need no word here. What the class promises beside (`bars`) is held against what
`inject` appended to `arena.measured`; what is plainly wrong goes into `arena.findings`. A fault of
a server names it in `touches`, so that the mixed run breaks each by one fault at a time. A fault
that needs more (a proxy, another main in the workers) brings it in `prepare`, whose variables every
worker gets.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

from chaos.arena import Arena

RESENT = "calls sent again, %"
REPEATED = "calls sent again"
"""Measured in each run, by the checker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """No value of a measure may be larger, and there has to be one: not looked at is not held."""

    measure: str
    at_most: float

    def holds(self, values: list[float]) -> bool:
        return bool(values) and all(value <= self.at_most for value in values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """How often a fault is injected."""

    alone: int
    mixed: int
    short: int = 2
    """In the run of a few seconds that the tests make."""


@asynccontextmanager
async def nothing_more(_: Arena) -> AsyncIterator[Mapping[str, str]]:
    yield {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    name: str
    """For `--only`, and the row's first column."""
    injected: str
    """How, in words."""
    inject: Callable[[Arena], Awaitable[None]]
    times: Times
    pause_seconds: tuple[float, float] = (0.5, 1.5)
    bars: tuple[Bar, ...] = ()
    touches: str | None = None
    workers: Mapping[str, str] = field(default_factory=dict)
    """Variables of the workers of its own run."""
    prepare: Callable[[Arena], AbstractAsyncContextManager[Mapping[str, str]]] = nothing_more
    """Entered before the first worker starts."""
