"""When a failed call is tried again: within which bounds, at the peer's wish, and when not."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.domain.retry import MAX_RETRY_AFTER_SECONDS, RetryPolicy

POLICY = RetryPolicy(max_attempts=5, base_seconds=0.5, cap_seconds=60.0)
NOW = datetime(2030, 1, 1, tzinfo=UTC)
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A busy machine is no failure."""

chances = st.floats(0.0, 1.0, exclude_max=True)


def almost_one() -> float:
    return 0.999999


@pytest.mark.parametrize(
    ("attempt", "ceiling"), [(1, 0.5), (2, 1.0), (3, 2.0), (7, 32.0), (8, 60.0), (30, 60.0)]
)
def test_the_ceiling_doubles_with_each_attempt_up_to_the_cap(attempt: int, ceiling: float) -> None:
    delay = POLICY.delay_seconds(attempt, retry_after_seconds=None, random=almost_one)
    assert delay == pytest.approx(ceiling, rel=1e-5)


@UNHURRIED
@given(attempt=st.integers(1, 1000), chance=chances)
def test_jitter_spreads_over_the_whole_interval(attempt: int, chance: float) -> None:
    ceiling = min(60.0, 0.5 * 2.0 ** (attempt - 1))
    delay = POLICY.delay_seconds(attempt, retry_after_seconds=None, random=lambda: chance)
    assert delay == pytest.approx(chance * ceiling)
    assert 0.0 <= delay <= ceiling


@UNHURRIED
@given(wish=st.floats(0.0, MAX_RETRY_AFTER_SECONDS), chance=chances, attempt=st.integers(1, 9))
def test_nobody_comes_back_before_the_time_that_the_peer_named(
    wish: float, chance: float, attempt: int
) -> None:
    delay = POLICY.delay_seconds(attempt, retry_after_seconds=wish, random=lambda: chance)
    assert wish <= delay <= wish + POLICY.base_seconds


@pytest.mark.parametrize(("wish", "taken"), [(-5.0, 0.0), (1e9, MAX_RETRY_AFTER_SECONDS)])
def test_an_absurd_wish_is_brought_within_bounds(wish: float, taken: float) -> None:
    delay = POLICY.delay_seconds(1, retry_after_seconds=wish, random=lambda: 0.0)
    assert delay == taken


def test_a_failed_attempt_is_followed_by_the_next() -> None:
    at = POLICY.next_attempt_at(4, now=NOW, retry_after_seconds=10.0, random=lambda: 0.5)
    assert at == NOW + timedelta(seconds=10.25)


@pytest.mark.parametrize("attempt", [5, 6])
def test_nothing_follows_the_last_attempt(attempt: int) -> None:
    at = POLICY.next_attempt_at(attempt, now=NOW, retry_after_seconds=1.0, random=lambda: 0.5)
    assert at is None


@pytest.mark.parametrize("attempt", [-5, 0, 1025, 10**9])
def test_no_attempt_is_too_absurd_for_a_delay(attempt: int) -> None:
    delay = POLICY.delay_seconds(attempt, random=almost_one)
    assert 0.0 <= delay <= 60.0


@UNHURRIED
@given(attempt=st.integers(1, 100), chance=chances)
def test_a_peer_that_has_enough_is_left_alone_for_half_the_interval(
    attempt: int, chance: float
) -> None:
    delay = POLICY.delay_seconds(attempt, is_limited=True, random=lambda: chance)
    assert POLICY.ceiling_seconds(attempt) / 2 <= delay <= POLICY.ceiling_seconds(attempt)
