"""PostgreSQL's time, as a worker with a wrong clock knows it."""

from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.engine.clock import Clock

CLOSE = timedelta(seconds=1)


@pytest.mark.parametrize("wrong_by", [timedelta(days=3), timedelta(days=-3), timedelta()])
def test_the_time_is_postgresqls_whatever_the_workers_own_clock_says(wrong_by: timedelta) -> None:
    clock = Clock()
    theirs = datetime.now(UTC) + wrong_by
    clock.set(theirs, elapsed_seconds=0.0)
    assert timedelta() <= clock.now() - theirs < CLOSE
    assert clock.now().tzinfo is UTC


def test_half_of_the_round_trip_is_the_way_back() -> None:
    clock = Clock()
    theirs = datetime.now(UTC)
    clock.set(theirs, elapsed_seconds=8.0)
    assert timedelta(seconds=4) <= clock.now() - theirs < timedelta(seconds=4) + CLOSE


def test_before_the_first_heartbeat_it_is_the_workers_own_time() -> None:
    assert abs(Clock().now() - datetime.now(UTC)) < CLOSE


def test_a_wall_clock_that_jumps_between_heartbeats_moves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds = [50.0]
    clock = Clock(seconds=lambda: seconds[0])
    clock.set(datetime(2030, 1, 1, tzinfo=UTC), elapsed_seconds=0.0)
    monkeypatch.setattr("orchestrator.engine.clock.datetime", None)  # nobody asks it
    seconds[0] = 53.0
    assert clock.now() == datetime(2030, 1, 1, 0, 0, 3, tzinfo=UTC)
