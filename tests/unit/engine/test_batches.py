"""Which tasks are loaded together, and when one is given up: an outage is no fault of theirs."""

from datetime import timedelta

import pytest

from orchestrator.domain.ids import TaskKey
from orchestrator.engine.batches import Batches
from orchestrator.engine.lease import Lease

ONE, TWO, THREE = TaskKey(1), TaskKey(2), TaskKey(3)
ALL = [ONE, TWO, THREE]


class Scene:
    """A worker that proves its life, or does not, while loads fail."""

    def __init__(self) -> None:
        self.now = 100.0
        self.lease = Lease(timedelta(seconds=7), seconds=lambda: self.now)
        self.batches = Batches(self.lease, patience=timedelta(seconds=8))
        self.lease.renew(self.now)

    def goes_on(self, seconds: float, *, beats: bool = True) -> None:
        self.now += seconds
        if beats:
            self.lease.renew(self.now)

    def fails(self) -> bool:
        return self.batches.failed(self.batches.next(ALL))


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_all_are_loaded_together(scene: Scene) -> None:
    assert scene.batches.next(ALL) == ALL
    scene.batches.loaded(ALL)
    assert scene.batches.next(ALL) == ALL


def test_while_postgresql_is_away_all_are_asked_for_together(scene: Scene) -> None:
    for _ in range(100):
        assert not scene.fails()
        scene.goes_on(1, beats=False)
    assert scene.batches.next(ALL) == ALL


def test_after_a_heartbeat_between_two_failures_each_is_loaded_alone(scene: Scene) -> None:
    in_trouble(scene)
    assert [scene.batches.next(ALL) for _ in range(2)] == [[ONE], [ONE]]
    scene.batches.loaded([ONE])
    assert scene.batches.next([TWO, THREE]) == [TWO]


def in_trouble(scene: Scene) -> None:
    """All three are to be loaded alone."""
    scene.fails()
    scene.goes_on(2)
    scene.goes_on(0.1, beats=False)
    scene.fails()


def test_those_in_trouble_and_newcomers_take_turns(scene: Scene) -> None:
    in_trouble(scene)
    newcomer = TaskKey(4)
    assert [scene.batches.next([*ALL, newcomer]) for _ in range(4)] == [
        [ONE],
        [newcomer],
        [ONE],
        [newcomer],
    ]


def test_one_that_fails_alone_lets_the_next_one_try(scene: Scene) -> None:
    in_trouble(scene)
    assert scene.batches.next(ALL) == [ONE]
    assert not scene.batches.failed([ONE])
    assert scene.batches.next(ALL) == [TWO]


def test_one_that_fails_alone_for_long_beside_a_steady_lease_is_given_up(scene: Scene) -> None:
    in_trouble(scene)
    scene.batches.next([ONE])
    assert not scene.batches.failed([ONE])
    for _ in range(4):
        scene.goes_on(1.9)
        scene.batches.next([ONE])
        assert not scene.batches.failed([ONE])
    scene.goes_on(0.5)
    scene.batches.next([ONE])
    assert scene.batches.failed([ONE])


def test_a_lease_that_lapsed_meanwhile_gives_it_more_time(scene: Scene) -> None:
    in_trouble(scene)
    scene.batches.next([ONE])
    scene.batches.failed([ONE])
    scene.goes_on(20, beats=False)
    scene.batches.next([ONE])
    assert not scene.batches.failed([ONE])
    scene.goes_on(0.1)
    scene.batches.next([ONE])
    assert not scene.batches.failed([ONE])


def test_what_is_wanted_no_more_is_forgotten(scene: Scene) -> None:
    in_trouble(scene)
    assert scene.batches.next([TWO]) == [TWO]
    scene.batches.loaded([TWO])
    assert scene.batches.next(ALL) == ALL
