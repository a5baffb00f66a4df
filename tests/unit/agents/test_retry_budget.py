"""How many second tries a minute allows."""

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.agents.retry_budget import RetryBudget, RetryBudgetOptions

OPTIONS = RetryBudgetOptions(share=0.1, floor=3)


def spent(budget: RetryBudget, now: float, *, retries: int) -> RetryBudget:
    for _ in range(retries):
        budget.count(now, is_retry=True)
    return budget


def test_a_quiet_system_may_try_again_too() -> None:
    budget = RetryBudget(OPTIONS)
    assert budget.left(0.0) == 3
    assert spent(budget, 0.0, retries=3).left(0.0) == 0


def test_a_busy_one_may_for_a_tenth_of_its_calls() -> None:
    budget = RetryBudget(OPTIONS)
    for _ in range(100):
        budget.count(0.0, is_retry=False)
    assert budget.left(0.0) == 10


def test_what_was_spent_comes_back_after_a_minute() -> None:
    budget = spent(RetryBudget(OPTIONS), 10.0, retries=3)
    assert budget.wait_seconds(30.0) == 40.0
    assert budget.left(69.9) == 0
    assert budget.left(70.0) == 3


@given(st.lists(st.tuples(st.floats(0, 5), st.booleans()), max_size=300))
def test_no_minute_has_more_second_tries_than_its_share(calls: list[tuple[float, bool]]) -> None:
    budget, now, sent = RetryBudget(OPTIONS), 0.0, list[tuple[float, bool]]()
    for pause, is_retry in calls:
        now += pause
        if not is_retry or budget.left(now):
            budget.count(now, is_retry=is_retry)
            sent.append((now, is_retry))
        minute = [r for at, r in sent if at > now - 55]
        # At most what the calls of this minute, and of the slot before it, allow.
        assert sum(minute) <= max(OPTIONS.floor, 0.1 * len([1 for at, _ in sent if at > now - 65]))
