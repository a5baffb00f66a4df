"""Many runs, a seed each, on all cores: `python -m tests.simulation --tasks 100000`.

It ends with the first seeds that fail, what they broke, and the command that shows their story.
"""

# ruff: noqa: T201

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.run import Plan, Report, simulate

TASKS_A_RUN = 200
MAX_SHOWN = 5


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--tasks", type=int, default=100_000, help="in all runs together")
    parser.add_argument("--seed", type=int, default=1, help="of the first run")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--story", action="store_true", help="one run, and all that happens in it")
    chosen = parser.parse_args(arguments)
    if chosen.story:
        return _tell(chosen.seed)
    runs = max(1, chosen.tasks // TASKS_A_RUN)
    began = time.monotonic()
    plans = [Plan(seed=chosen.seed + n, tasks=TASKS_A_RUN) for n in range(runs)]
    reports = list(_all(plans, processes=chosen.processes))
    return _sum_up(reports, seconds=time.monotonic() - began)


def _all(plans: Sequence[Plan], *, processes: int) -> Iterator[Report]:
    with ProcessPoolExecutor(processes) as pool:
        for n, report in enumerate(pool.map(simulate, plans), 1):
            yield report
            if n % 50 == 0:
                print(f"{n} of {len(plans)} runs", file=sys.stderr)


def _tell(seed: int) -> int:
    report = simulate(Plan(seed=seed, tasks=TASKS_A_RUN, tells=True))
    print("\n".join(report.story))
    return _sum_up([report], seconds=0)


def _sum_up(reports: Sequence[Report], *, seconds: float) -> int:
    tasks = sum(r.tasks for r in reports)
    faults = sum((r.faults for r in reports), Counter[str]())
    statuses = sum((r.statuses for r in reports), Counter[str]())
    print(f"{tasks} tasks in {len(reports)} runs", _each(statuses), sep=": ")
    print(f"{sum(faults.values())} faults", _each(faults), sep=": ")
    print(f"{sum(r.sends for r in reports)} calls sent, {sum(r.resent for r in reports)} again")
    print(f"{sum(r.seconds for r in reports):.0f} simulated seconds", end="")
    print(f" in {seconds:.1f} s: {tasks / seconds:.0f} tasks/s" if seconds else "")
    failed = [r for r in reports if r.violations]
    for report in failed[:MAX_SHOWN]:
        print(f"seed {report.seed} fails:", *report.violations[:MAX_SHOWN], sep="\n  ")
        print(f"  replay: python -m tests.simulation --story --seed {report.seed}")
    print(f"{len(failed)} seeds fail")
    return 1 if failed else 0


def _each(counts: Counter[str]) -> str:
    return ", ".join(f"{what} {times}" for what, times in counts.most_common())


if __name__ == "__main__":
    sys.exit(main())
