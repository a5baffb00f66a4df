"""Bugs that were put in on purpose: the simulation sees each of them."""

import pytest

from orchestrator.engine.lease import Lease
from orchestrator.engine.runner import Runner
from orchestrator.engine.running import Running
from orchestrator.store.journal import Entry, Rest
from tests.model.store import ModelStore
from tests.model.tables import TaskRow
from tests.simulation.run import Plan, simulate
from tests.simulation.weather import STORM

SEEDS = range(1, 41)


class Unfenced(ModelStore):
    """Whoever writes last, wins."""

    def may_write(self, row: TaskRow, entry: Entry) -> bool:
        return True


class SleepsThrough(ModelStore):
    """A message that comes while a task is coming to rest wakes nobody."""

    def rest(self, row: TaskRow, rest: Rest, *, seen: int) -> None:
        super().rest(row, rest, seen=row.wake)


def seen(word: str, *, store: type[ModelStore] = ModelStore) -> bool:
    """Whether one of the seeds breaks a promise in these words."""
    return any(
        word in violation
        for seed in SEEDS
        for violation in simulate(Plan(seed=seed, tasks=60, climate=STORM, store=store)).violations
    )


def test_a_missing_fence_is_seen() -> None:
    assert seen("steps", store=Unfenced)


def test_a_lost_wake_up_is_seen() -> None:
    assert seen("is stuck", store=SleepsThrough)


def test_a_call_that_is_not_announced_before_it_goes_out_is_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def say_nothing(*_: object) -> bool:
        return True

    monkeypatch.setattr(Runner, "_announce", say_nothing)
    assert seen("of at_most_once agent")


def test_a_worker_that_sends_without_its_lease_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lease, "is_held", lambda _: True)
    assert seen("older owner")


def test_a_runner_that_keeps_its_slot_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Running, "_ended", lambda *_: None)
    assert seen("in memory")
