"""The workload W: a task is three chat turns and two agent calls, with no time to think between.

The model calls agent `bench-a`, then agent `bench-b`, then completes. The task requires no field,
so that no rule can complete it earlier; stubs count what was really asked.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import orjson

from orchestrator.domain.json import JsonObject

AGENTS_FOLDER = Path(__file__).resolve().parent / "agents"
STUB_VARIABLE = "BENCH_STUB_URL"
"""What the agents' declarations are filled with."""

CONCURRENCY = 64
MODEL = "openai:bench-model"
TURNS = 3
CALLS = 2

NUMBER = re.compile(rb"Bench task (\d+)")
"""How the stub knows a task in a prompt."""

EVENT_DATA: JsonObject = {"country": "DE", "reference": "2030/0815", "note": "x" * 200}


def task_id(number: int) -> str:
    return f"bench-{number:09d}"


def description(number: int) -> str:
    return f"Bench task {number}: register the customer ACME and open an account for it"


def task_message(number: int) -> bytes:
    """What is published on `tasks`."""
    return orjson.dumps(
        {
            "task_id": task_id(number),
            "task_description": description(number),
            "required_fields": [],
            "event_data": EVENT_DATA,
        }
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What the stubs were asked: chat turns by what they came to, and calls."""

    first: int
    second: int
    third: int
    a: int
    b: int

    @classmethod
    def of(cls, tasks: int) -> "Counts":
        """What so many tasks have to come to."""
        return cls(first=tasks, second=tasks, third=tasks, a=tasks, b=tasks)


class WrongWork(Exception):
    """A side did not do the workload, so that its figures mean nothing."""


def check(counted: Counts, *, tasks: int, side: str) -> None:
    """Raises `WrongWork` unless each task made its three turns and two calls, and no more."""
    expected = Counts.of(tasks)
    if counted != expected:
        raise WrongWork(f"{side}: the stubs counted {counted}, expected {expected}")
