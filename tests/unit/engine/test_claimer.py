"""When suspects are tried: not in trouble, and not put off for ever by it."""

import itertools
from typing import cast

from orchestrator.domain.ids import WorkerId
from orchestrator.engine.claimer import MAX_TROUBLE_SECONDS, Claimer
from orchestrator.engine.clock import Clock
from orchestrator.engine.options import EngineOptions
from orchestrator.engine.store import TaskStore

STEP_SECONDS = 0.5


async def test_trouble_that_does_not_end_puts_suspects_off_once() -> None:
    steps = itertools.count()

    def always_late() -> float:
        return STEP_SECONDS * next(steps)

    claimer = Claimer(
        cast(TaskStore, None),
        EngineOptions(worker_name="w"),
        clock=Clock(seconds=always_late),
        worker=lambda: WorkerId(1),
        places=lambda: 1,
        start=lambda _: None,
    )
    began = next(steps)
    await claimer._trouble_over()
    first = next(steps) - began
    await claimer._trouble_over()
    second = next(steps) - began - first
    assert first * STEP_SECONDS >= MAX_TROUBLE_SECONDS
    assert second < first / 2
