"""A task at one moment, and at the next."""

from datetime import UTC, datetime

import pytest

from orchestrator.domain.context import Context
from orchestrator.domain.decision import Delegate, Usage
from orchestrator.domain.ids import Epoch, Seq, TaskId, TaskKey
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.step import (
    Accepted,
    Decided,
    EventApplied,
    Failed,
    Retried,
    Step,
    StepBody,
)
from orchestrator.domain.task import Task

TOLD = EventApplied(event_type="data")
RETRIED = Retried()


def decided(tokens: int) -> Decided:
    return Decided(decision=Delegate(), usage=Usage(input_tokens=tokens, output_tokens=1))


def snapshot(*bodies: StepBody) -> Snapshot:
    task = Task(
        key=TaskKey(1),
        task_id=TaskId("t"),
        description="d",
        created_at=datetime(2030, 1, 1, tzinfo=UTC),
    )
    steps = tuple(Step(seq=Seq(n), body=body) for n, body in enumerate(bodies, 1))
    context = Context(required_fields=("a", "b"))
    return Snapshot(task=task, epoch=Epoch(1), context=context, steps=steps)


def test_a_task_without_steps_is_at_number_zero() -> None:
    assert snapshot().seq == 0
    assert snapshot(Accepted(description="d"), TOLD).seq == 2


def test_after_steps_their_changes_are_applied_in_order() -> None:
    before = snapshot(Accepted(description="d"))
    steps = [
        Step(seq=Seq(2), body=TOLD, change={"collected_data": {"a": 1, "b": 1}}),
        Step(seq=Seq(3), body=TOLD),
        Step(seq=Seq(4), body=TOLD, change={"collected_data": {"b": 2}}),
    ]
    after = before.after(steps)
    assert after.context.collected_data == {"a": 1, "b": 2}
    assert after.steps == (*before.steps, *steps)
    assert before.context.collected_data == {}


def test_after_nothing_is_the_same() -> None:
    assert snapshot(TOLD).after([]) == snapshot(TOLD)


@pytest.mark.parametrize(
    ("bodies", "numbers"),
    [
        ([], []),
        ([TOLD, TOLD], [1, 2]),
        ([TOLD, Failed(reason="r"), RETRIED], [3]),
        ([TOLD, RETRIED, TOLD, RETRIED, TOLD, TOLD], [4, 5, 6]),
    ],
)
def test_limits_count_what_happened_since_the_last_retry_by_a_person(
    bodies: list[StepBody], numbers: list[int]
) -> None:
    assert [step.seq for step in snapshot(*bodies).current_run] == numbers
