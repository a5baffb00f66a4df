"""What was measured, and what it comes to: medians, ratios, percentiles and the bars (pure)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from orchestrator.domain.json import JsonObject

PRODUCT, LEAN, STOCK = "product", "lean", "stock"
SIDES = {
    PRODUCT: "orchestrator worker",
    LEAN: "bare loop, same model and client",
    STOCK: "bare loop, stock ChatOpenAI",
}

MIN_RATIO = 0.8
"""Of the tasks a second of the bare loop that asks the same model in the same way."""
MAX_FIRST_BYTE_MS = 50.0
"""From just before a task is published to the first byte of its first prompt, p99, idle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One side, so many tasks, as fast as they go."""

    side: str
    tasks: int
    seconds: float
    cpu_seconds: Mapping[str, float]
    """By process: `loop` (the worker's, or the bare loop's), `postgres`, `kafka`."""

    @property
    def rate(self) -> float:
        """Tasks a second."""
        return self.tasks / self.seconds

    def cpu_ms(self, process: str) -> float:
        """A task's, in milliseconds; NaN where the side has no such process."""
        return self.cpu_seconds.get(process, math.nan) / self.tasks * 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Commits:
    """The journal's statements during the product's rounds."""

    p50_ms: float
    p99_ms: float
    steps_each: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    machine: JsonObject
    rounds: tuple[Round, ...]
    """In the order in which they were run."""
    first_byte_ms: tuple[float, ...]
    """Of single tasks through the product, from publishing to the prompt's first byte."""
    bare_first_byte_ms: tuple[float, ...]
    """The same of the bare loop, from the task's begin: what the model's client takes of it."""
    commits: Commits | None = field(default=None)

    def of(self, side: str) -> list[Round]:
        return [r for r in self.rounds if r.side == side]

    def rate(self, side: str) -> float:
        return median(r.rate for r in self.of(side))

    def cpu_ms(self, side: str, process: str) -> float:
        return median(r.cpu_ms(process) for r in self.of(side))

    def ratios(self, side: str) -> list[float]:
        """The product's rate over this side's, round by round: neighbours share their weather."""
        pairs = zip(self.of(PRODUCT), self.of(side), strict=True)
        return [product.rate / bare.rate for product, bare in pairs]

    def ratio(self, side: str) -> float:
        return median(self.ratios(side))

    def bars(self) -> list[tuple[str, bool]]:
        """What has to hold, with the figure that says whether it does."""
        ratio = self.ratio(LEAN)
        first = percentile(self.first_byte_ms, 99)
        return [
            (f"tasks/s at least {MIN_RATIO} of the bare loop's: {ratio:.2f}", ratio >= MIN_RATIO),
            (
                f"ingest to first LLM byte, p99, at most {MAX_FIRST_BYTE_MS:g} ms: {first:.1f} ms",
                first <= MAX_FIRST_BYTE_MS,
            ),
        ]


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile: one of the values, so that none is made up."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def histogram_percentile(buckets: Mapping[float, float], percent: float) -> float:
    """From cumulative counts by upper bound, linear within a bucket, as Prometheus does it."""
    bounds = sorted(buckets)
    wanted = buckets[bounds[-1]] * percent / 100
    below, lower = 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= wanted:
            share = (wanted - below) / max(buckets[bound] - below, 1e-9)
            return lower if math.isinf(bound) else lower + (bound - lower) * share
        below, lower = buckets[bound], bound
    return lower
