"""Journals of every release are read by every later one, which makes the same of them."""

from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from orchestrator.domain.context import Context
from orchestrator.domain.errors import UnreadableJournal
from orchestrator.domain.ids import Epoch, Seq, TaskId, TaskKey
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.step import Step, dump_body, load_body
from orchestrator.domain.task import Task
from orchestrator.engine.moves import next_move
from orchestrator.engine.options import TaskLimits

GOLDEN = Path(__file__).parents[2] / "golden"
FILES = sorted(GOLDEN.glob("*/*.json"))

KINDS = {
    "0.1.0": {
        "accepted", "event", "decision", "call_started", "result", "attempt_failed", "waiting",
        "completed", "failed", "cancelled", "retried",
    }
}  # fmt: skip
"""Those of each release."""


def read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = orjson.loads(path.read_bytes())
    return document


def beginnings(document: dict[str, Any]) -> Iterator[tuple[Snapshot, dict[str, Any]]]:
    """The task after each of its steps, and what the release told of it."""
    task = Task(
        key=TaskKey(1),
        task_id=TaskId("order"),
        description="Register ACME",
        created_at=datetime.fromisoformat(document["task"]["created_at"]),
        deadline=datetime.fromisoformat(document["task"]["deadline"]),
    )
    snapshot = Snapshot(task=task, epoch=Epoch(3), context=Context())
    for row, told in zip(document["steps"], document["beginnings"], strict=True):
        step = Step(
            seq=Seq(row["seq"]),
            body=load_body(row["kind"], row["body"]),
            change=row["change"],
            at=datetime.fromisoformat(row["at"]),
        )
        snapshot = snapshot.after([step])
        yield snapshot, told


def includes(now: Any, then: Any) -> bool:
    """Whether all that was told then is told now; there may be more."""
    if isinstance(then, dict):
        return isinstance(now, dict) and all(includes(now.get(k), v) for k, v in then.items())
    if isinstance(then, list):
        return isinstance(now, list) and len(now) == len(then) and all(map(includes, now, then))
    return bool(now == then)


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_journal_of_an_earlier_release_leads_to_the_context_and_the_move_of_then(
    path: Path,
) -> None:
    document = read(path)
    given = document["limits"]
    limits = TaskLimits(
        max_steps=given["max_steps"],
        max_tokens=given["max_tokens"],
        max_age=timedelta(seconds=given["max_age_seconds"]),
    )
    for snapshot, told in beginnings(document):
        assert includes(snapshot.context.to_json(), told["context"])
        if "move" in told:
            move = next_move(snapshot, now=datetime.fromisoformat(told["now"]), limits=limits)
            made = orjson.loads(orjson.dumps({"type": type(move).__name__, **asdict(move)}))
            assert includes(made, told["move"]), f"after step {told['seq']}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_step_of_an_earlier_release_loses_nothing_when_it_is_read(path: Path) -> None:
    for row in read(path)["steps"]:
        again = orjson.loads(dump_body(load_body(row["kind"], row["body"])))
        assert includes(again, row["body"])


@pytest.mark.parametrize("version", KINDS)
def test_golden_journals_hold_every_kind_of_step_of_their_release(version: str) -> None:
    found = {
        row["kind"] for path in (GOLDEN / version).glob("*.json") for row in read(path)["steps"]
    }
    assert found == KINDS[version]


@pytest.mark.parametrize("path", FILES[:1])
def test_step_of_an_unknown_kind_is_refused_loudly(path: Path) -> None:
    row = read(path)["steps"][0]
    with pytest.raises(UnreadableJournal, match=r"'teleported'.*upgrade"):
        load_body("teleported", row["body"])
