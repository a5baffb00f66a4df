"""The demo's sample tasks: what each shows, and how it has to end (pure)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from orchestrator.domain.ids import TaskId
from orchestrator.domain.json import JsonObject
from orchestrator.store.history import StepRow, TaskDetails

Evidence = Callable[[TaskDetails, Sequence[StepRow]], str | None]
"""What is wrong with a task that ended; None where it ended as it should."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A Kafka message of the demo, ready to be sent."""

    topic: str
    key: str
    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One task: what it is there for, and what has to come of it."""

    name: str
    shows: str
    expect: Evidence


def _completed(details: TaskDetails, _steps: Sequence[StepRow]) -> str | None:
    row = details.row
    if row.status != "completed":
        return f"expected completed, it is {row.status}: {row.reason or row.current_state}"
    return f"completed without {', '.join(row.missing)}" if row.missing else None


def _side_by_side(details: TaskDetails, steps: Sequence[StepRow]) -> str | None:
    calls = [s.agent for s in steps if s.kind == "decision" and s.agent and ", " in s.agent]
    return _completed(details, steps) or (None if calls else "no two agents worked side by side")


def _answered(details: TaskDetails, steps: Sequence[StepRow]) -> str | None:
    kinds = [s.kind for s in steps]
    waited = "waiting" in kinds and "event" in kinds[kinds.index("waiting") :]
    return _completed(details, steps) or (None if waited else "it did not wait for an answer")


def _retried(details: TaskDetails, steps: Sequence[StepRow]) -> str | None:
    failed = any(s.kind == "attempt_failed" for s in steps)
    return _completed(details, steps) or (None if failed else "no call failed and was retried")


def _refused(details: TaskDetails, _steps: Sequence[StepRow]) -> str | None:
    row = details.row
    if row.status != "failed" or "no agent" not in (row.reason or "").lower():
        return f"expected failed for want of an agent, it is {row.status}: {row.reason}"
    return None


SAMPLES = (
    Sample(name="account", shows="two agents, one after the other", expect=_completed),
    Sample(name="onboarding", shows="three agents, two side by side", expect=_side_by_side),
    Sample(name="contract", shows="an agent asks, an event answers", expect=_answered),
    Sample(name="flight", shows="no agent can do it", expect=_refused),
    Sample(name="flaky", shows="the first call fails and is retried", expect=_retried),
)
MALFORMED = "malformed"
ASKING = "contract"


def task_id(name: str, *, run: str) -> TaskId:
    """Of one run: data stays between runs, and an id is used once."""
    return TaskId(f"demo-{name}-{run}")


def read_messages(path: Path, *, run: str) -> list[Message]:
    """The messages of a `.jsonl` file, their ids made those of this run."""
    return [_message(orjson.loads(line), run=run) for line in path.read_bytes().splitlines()]


def _message(record: JsonObject, *, run: str) -> Message:
    key = f"{record['key']}-{run}"
    value = record.get("value")
    if isinstance(value, dict):
        body = orjson.dumps({**value, "task_id": key})
    else:
        body = str(record["raw"]).encode()
    return Message(topic=str(record["topic"]), key=key, value=body)
