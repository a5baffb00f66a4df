"""When suspects are tried: not in trouble, and not put off for ever by it."""

import itertools

from orchestrator.domain.ids import TaskKey
from orchestrator.engine.clock import Clock
from orchestrator.engine.trials import MAX_TROUBLE_SECONDS, UNDISTURBED_SECONDS, Trials

STEP_SECONDS = 0.5


async def always() -> bool:
    return True


async def test_trouble_that_does_not_end_puts_suspects_off_once() -> None:
    steps = itertools.count()
    trials = Trials(Clock(seconds=lambda: STEP_SECONDS * next(steps)), always)
    began = next(steps)
    await trials.trouble_over()
    first = next(steps) - began
    await trials.trouble_over()
    second = next(steps) - began - first
    assert first * STEP_SECONDS >= MAX_TROUBLE_SECONDS
    assert second < first / 2


def test_a_trial_ends_with_the_suspects_own_step_or_its_time() -> None:
    now = [0.0]
    trials = Trials(Clock(seconds=lambda: now[0]), always)
    trials.begin(TaskKey(7))
    assert not trials.written([TaskKey(8)])
    assert trials.is_on
    assert trials.written([TaskKey(8), TaskKey(7)])
    assert not trials.is_on

    trials.begin(TaskKey(7))
    now[0] += UNDISTURBED_SECONDS
    assert not trials.is_on
