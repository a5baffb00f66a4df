from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.retry import MAX_RETRY_AFTER_SECONDS, RetryPolicy

NOW = datetime(2030, 1, 1, tzinfo=UTC)
POLICY = RetryPolicy(max_attempts=4, base_seconds=1.0, cap_seconds=3.0)


def at(attempt: int, *, retry_after: float | None = None, random: float = 1.0) -> datetime | None:
    return POLICY.next_attempt_at(
        attempt, now=NOW, retry_after_seconds=retry_after, random=lambda: random
    )


def seconds(attempt: int, *, retry_after: float | None = None, random: float = 1.0) -> float:
    when = at(attempt, retry_after=retry_after, random=random)
    assert when is not None
    return (when - NOW).total_seconds()


def test_the_delay_doubles_up_to_the_cap() -> None:
    assert [seconds(n) for n in (1, 2, 3)] == [1.0, 2.0, 3.0]


def test_full_jitter_spreads_over_the_whole_interval() -> None:
    assert seconds(2, random=0.0) == 0.0
    assert seconds(2, random=0.5) == 1.0


def test_the_last_attempt_is_the_last() -> None:
    assert at(4) is None
    assert at(5, retry_after=1.0) is None


def test_a_peers_own_wish_is_never_undercut() -> None:
    assert seconds(1, retry_after=30.0, random=0.0) == 30.0
    assert seconds(1, retry_after=30.0, random=1.0) == 31.0


@given(st.floats(allow_nan=False), st.floats(0, 1))
def test_a_foolish_wish_is_bounded(wish: float, random: float) -> None:
    assert 0 <= seconds(1, retry_after=wish, random=random) <= MAX_RETRY_AFTER_SECONDS + 1


@given(st.integers(1, 3), st.floats(0, 1))
def test_no_delay_is_longer_than_the_cap(attempt: int, random: float) -> None:
    when = at(attempt, random=random)
    assert when is not None
    assert NOW <= when <= NOW + timedelta(seconds=3)
