"""The journal's commits, from two readings of the worker's metrics."""

import re
from collections.abc import Iterator

from bench.figures import Commits, histogram_percentile

SECONDS = "orchestrator_journal_commit_seconds"
STEPS = "orchestrator_journal_batch_steps"

_BUCKET = re.compile(r'_bucket\{le="([^"]+)"\} (\S+)')


def commits_between(before: str, after: str) -> Commits | None:
    """What was committed in between; None where that is nothing."""
    counted = {
        bound: count - dict(_buckets(before)).get(bound, 0.0) for bound, count in _buckets(after)
    }
    statements = _value(after, f"{STEPS}_count") - _value(before, f"{STEPS}_count")
    steps = _value(after, f"{STEPS}_sum") - _value(before, f"{STEPS}_sum")
    if not counted or statements == 0:
        return None
    return Commits(
        p50_ms=histogram_percentile(counted, 50) * 1000,
        p99_ms=histogram_percentile(counted, 99) * 1000,
        steps_each=steps / statements,
    )


def _buckets(exposition: str) -> Iterator[tuple[float, float]]:
    for line in exposition.splitlines():
        found = _BUCKET.match(line.removeprefix(SECONDS))
        if line.startswith(SECONDS) and found:
            yield float(found[1]), float(found[2])


def _value(exposition: str, name: str) -> float:
    lines = (line.split(" ") for line in exposition.splitlines())
    return next((float(line[1]) for line in lines if line[0] == name), 0.0)
