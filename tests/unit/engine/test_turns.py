"""Which tasks are loaded together, and when one is given up: an outage is no fault of theirs."""

from datetime import timedelta

import pytest

from orchestrator.domain.ids import TaskKey
from orchestrator.engine.lease import Lease
from orchestrator.engine.turns import Turns

ONE, TWO, THREE = TaskKey(1), TaskKey(2), TaskKey(3)
ALL = [ONE, TWO, THREE]


class Scene:
    """A worker that proves its life, or does not, while loads fail."""

    def __init__(self) -> None:
        self.now = 100.0
        self.lease = Lease(timedelta(seconds=7), seconds=lambda: self.now)
        self.turns = Turns(self.lease, patience=timedelta(seconds=8))
        self.lease.renew(self.now)

    def goes_on(self, seconds: float, *, beats: bool = True) -> None:
        self.now += seconds
        if beats:
            self.lease.renew(self.now)

    def fails(self) -> bool:
        return self.turns.failed(self.turns.next(ALL))


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_all_are_loaded_together(scene: Scene) -> None:
    assert scene.turns.next(ALL) == ALL
    scene.turns.loaded(ALL)
    assert scene.turns.next(ALL) == ALL


def test_while_postgresql_is_away_all_are_asked_for_together(scene: Scene) -> None:
    for _ in range(100):
        assert not scene.fails()
        scene.goes_on(1, beats=False)
    assert scene.turns.next(ALL) == ALL


def test_after_a_heartbeat_between_two_failures_each_is_loaded_alone(scene: Scene) -> None:
    scene.fails()
    scene.goes_on(2)
    scene.goes_on(0.1, beats=False)
    scene.fails()

    assert [scene.turns.next(ALL) for _ in range(2)] == [[ONE], [ONE]]
    scene.turns.loaded([ONE])
    assert scene.turns.next([TWO, THREE]) == [TWO]


def in_trouble(scene: Scene) -> None:
    """All three are to be loaded alone."""
    scene.fails()
    scene.goes_on(2)
    scene.goes_on(0.1, beats=False)
    scene.fails()


def test_those_in_trouble_and_newcomers_take_turns(scene: Scene) -> None:
    in_trouble(scene)
    newcomer = TaskKey(4)
    assert [scene.turns.next([*ALL, newcomer]) for _ in range(4)] == [
        [ONE],
        [newcomer],
        [ONE],
        [newcomer],
    ]


def test_one_that_fails_alone_lets_the_next_one_try(scene: Scene) -> None:
    in_trouble(scene)
    assert scene.turns.next(ALL) == [ONE]
    assert not scene.turns.failed([ONE])
    assert scene.turns.next(ALL) == [TWO]


def test_one_that_fails_alone_for_long_beside_a_steady_lease_is_given_up(scene: Scene) -> None:
    in_trouble(scene)
    scene.turns.next([ONE])
    assert not scene.turns.failed([ONE])
    for _ in range(4):
        scene.goes_on(1.9)
        scene.turns.next([ONE])
        assert not scene.turns.failed([ONE])
    scene.goes_on(0.5)
    scene.turns.next([ONE])
    assert scene.turns.failed([ONE])


def test_a_lease_that_lapsed_meanwhile_gives_it_more_time(scene: Scene) -> None:
    in_trouble(scene)
    scene.turns.next([ONE])
    scene.turns.failed([ONE])
    scene.goes_on(20, beats=False)
    scene.turns.next([ONE])
    assert not scene.turns.failed([ONE])
    scene.goes_on(0.1)
    scene.turns.next([ONE])
    assert not scene.turns.failed([ONE])


def test_what_is_wanted_no_more_is_forgotten(scene: Scene) -> None:
    in_trouble(scene)
    assert scene.turns.next([TWO]) == [TWO]
    scene.turns.loaded([TWO])
    assert scene.turns.next(ALL) == ALL
