"""What a task may use, and how it is written down: counts, tokens, money, time.

Money is counted in millionths (`cost_micros`) of whatever currency the prices are in, as whole
numbers, so that sums are exact.
"""

import math
from dataclasses import asdict, dataclass
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from orchestrator.domain.json import JsonObject

WhenExhausted = Literal["wait", "fail"]
Resource = Literal["tokens", "cost_micros"]
"""What one turn of the planner uses, and is therefore set aside before it."""

MICROS = 1_000_000
Micros = Annotated[int, Field(exclude_if=lambda value: value == 0)]
"""In a step's body: most cost nothing, and then say nothing of it."""
MAX_COUNT = 2**31 - 1
"""Of a budget's steps and attempts."""
MAX_TOKENS = 2**63 - 1
"""Of a budget."""
MAX_COST = 1e9
"""Of a budget, and of its seconds; what is larger is a mistake, and sums of it would not fit into
PostgreSQL."""
MAX_CALL_COST = 1e6
"""Of one call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Bounds that a task brings; None leaves the one to the service's limits. Stored as JSON."""

    steps: int | None = None
    attempts: int | None = None
    """Failed tries of the model and of agents, of all calls together."""
    tokens: int | None = None
    """Input and output of its model calls."""
    cost_micros: int | None = None
    seconds: float | None = None
    """From its acceptance, waiting included."""
    when_exhausted: WhenExhausted = "fail"
    """`wait`: the task rests until somebody tops its budget up."""

    @classmethod
    def of_row(cls, *, tokens: int | None, document: JsonObject | None) -> "Budget":
        """What `to_json` gave; release 0.1.0 knew tokens alone, in a column of their own."""
        return _BUDGET.validate_python({"tokens": tokens, **(document or {})})

    def to_json(self) -> JsonObject:
        return {name: value for name, value in asdict(self).items() if value is not None}


_BUDGET = TypeAdapter(Budget)

NO_BUDGET = Budget()
"""Of a task that leaves all to the service's limits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Amounts:
    """So much of everything that a budget bounds."""

    steps: int = 0
    attempts: int = 0
    tokens: int = 0
    cost_micros: int = 0
    seconds: float = 0.0

    @classmethod
    def of_top_up(cls, payload: JsonObject) -> "Amounts":
        """What a `top_up` event brings; its fields are those of a task's `budget`."""
        said = payload.get("budget")
        given = said if isinstance(said, dict) else {}
        return cls(
            steps=int(_amount(given.get("steps"), most=MAX_COUNT)),
            attempts=int(_amount(given.get("attempts"), most=MAX_COUNT)),
            tokens=int(_amount(given.get("tokens"), most=MAX_TOKENS)),
            cost_micros=micros(_amount(given.get("cost"), most=MAX_COST)),
            seconds=_amount(given.get("seconds"), most=MAX_COST),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What one turn of the planner may use at most; None: as much as it needs."""

    tokens: int | None = None
    cost_micros: int | None = None


UNBOUNDED = Allowance()


def micros(cost: float) -> int:
    """An amount of money in millionths, rounded up: a price is never forgotten for being small."""
    return math.ceil(round(cost * MICROS, 3))


def money_text(cost_micros: int) -> str:
    """`0.0021`: all digits that count, at least two."""
    text = f"{cost_micros / MICROS:.6f}"
    return text.rstrip("0").ljust(text.index(".") + 3, "0")


def told_cost_micros(usage: JsonObject | None) -> int | None:
    """What an agent says that its call cost (`usage.cost`); None where it says nothing usable."""
    said = usage.get("cost") if usage else None
    if isinstance(said, bool) or not isinstance(said, int | float):
        return None
    return micros(said) if 0 <= said <= MAX_CALL_COST else None


def _amount(value: object, *, most: float) -> float:
    """Nothing where it can't be one: a journal that says so all the same has to be read."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0.0
    return value if 0 <= value <= most else 0.0
