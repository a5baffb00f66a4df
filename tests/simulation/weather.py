"""What goes wrong, drawn from one seed: how often, how long, and which of the possible ways."""

import random
from dataclasses import dataclass, field
from enum import Enum, auto


class Fate(Enum):
    """What becomes of one statement."""

    DONE = auto()
    REFUSED = auto()
    """It never got there."""
    FORGOTTEN = auto()
    """It took effect, and its answer is lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Climate:
    """How often things go wrong; zero everywhere is a fine day."""

    refused: float = 0.02
    forgotten: float = 0.02
    slow: float = 0.01
    """Statements that take seconds, some longer than a lease."""
    agent_trouble: float = 0.2
    model_trouble: float = 0.05
    seconds_between_blows: float = 6.0
    """Kills, freezes, outages, restarts, rebalances."""
    seconds: float = 120.0
    """How long it lasts."""


STORMY = Climate()
STORM = Climate(refused=0.1, forgotten=0.1, slow=0.05, agent_trouble=0.5, seconds_between_blows=2)
CALM = Climate(
    refused=0,
    forgotten=0,
    slow=0,
    agent_trouble=0,
    model_trouble=0,
    seconds_between_blows=float("inf"),
)


@dataclass(slots=True)
class Weather:
    """One run's faults. It ends: after `clear` nothing fails any more."""

    random: random.Random
    climate: Climate
    store_is_down: bool = False
    counts: dict[str, int] = field(default_factory=dict)

    def clear(self) -> None:
        self.climate, self.store_is_down = CALM, False

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    def strikes(self, rate: float) -> bool:
        return rate > 0 and self.random.random() < rate

    def statement(self) -> tuple[Fate, float, float]:
        """A statement's fate, the seconds until it takes effect, and until its answer is there."""
        there = self.random.uniform(0.0003, 0.002)
        back = self.random.uniform(0.0001, 0.001)
        if self.store_is_down:
            self.count("statement refused")
            return Fate.REFUSED, self.random.choice((0.001, 2.0)), 0.0
        if self.strikes(self.climate.slow):
            self.count("statement slow")
            there += self.random.uniform(0, 8)
            back += self.random.uniform(0, 4)
        if self.strikes(self.climate.refused):
            self.count("statement refused")
            return Fate.REFUSED, there, back
        if self.strikes(self.climate.forgotten):
            self.count("answer of a statement lost")
            return Fate.FORGOTTEN, there, back
        return Fate.DONE, there, back
