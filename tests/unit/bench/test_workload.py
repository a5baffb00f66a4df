import pytest

from bench.workload import Counts, WrongWork, check


def test_a_task_is_three_turns_and_two_calls() -> None:
    check(Counts(first=5, second=5, third=5, a=5, b=5), tasks=5, side="product")


def test_a_side_that_asked_once_too_often_has_no_figures() -> None:
    with pytest.raises(WrongWork, match="lean: the stubs counted"):
        check(Counts(first=5, second=6, third=5, a=5, b=5), tasks=5, side="lean")
