import pytest

from orchestrator.domain.budget import (
    MAX_COST,
    MAX_COUNT,
    MAX_TOKENS,
    NO_BUDGET,
    Amounts,
    Budget,
    micros,
    money_text,
    told_cost_micros,
)
from orchestrator.domain.json import JsonObject


def test_a_budget_is_read_back_from_what_is_stored() -> None:
    budget = Budget(steps=1, tokens=2, cost_micros=3, seconds=4.5, when_exhausted="wait")
    assert Budget.of_row(tokens=None, document=budget.to_json()) == budget


def test_a_task_of_release_0_1_0_has_a_budget_of_tokens_alone() -> None:
    assert Budget.of_row(tokens=60, document=None) == Budget(tokens=60)
    assert Budget.of_row(tokens=None, document=None) == NO_BUDGET


def test_a_field_of_a_later_release_is_left_out() -> None:
    assert Budget.of_row(tokens=None, document={"tokens": 1, "new": 2}) == Budget(tokens=1)


@pytest.mark.parametrize(
    ("cost", "expected"), [(0.5, 500_000), (0.1 + 0.2, 300_000), (0.0000001, 1), (0, 0)]
)
def test_money_is_counted_in_whole_millionths_rounded_up(cost: float, expected: int) -> None:
    assert micros(cost) == expected


@pytest.mark.parametrize(
    ("amount", "text"), [(500_000, "0.50"), (2_100, "0.0021"), (1_000_000, "1.00"), (0, "0.00")]
)
def test_money_is_shown_with_the_digits_that_count(amount: int, text: str) -> None:
    assert money_text(amount) == text


@pytest.mark.parametrize(
    "usage", [None, {}, {"cost": "1"}, {"cost": -1}, {"cost": True}, {"cost": 1e12}]
)
def test_a_cost_that_makes_no_sense_is_none(usage: dict[str, object] | None) -> None:
    assert told_cost_micros(usage) is None  # type: ignore[arg-type]


def test_a_top_up_beyond_all_bounds_in_a_journal_adds_nothing() -> None:
    """It would be an error each time that the journal is read."""
    assert Amounts.of_top_up({"budget": {"cost": 1e303, "tokens": 1e300, "steps": 2}}) == Amounts(
        steps=2
    )


def test_a_top_up_of_all_that_a_message_may_ask_for_is_taken() -> None:
    most: JsonObject = {
        "tokens": MAX_TOKENS,
        "steps": MAX_COUNT,
        "cost": MAX_COST,
        "seconds": MAX_COST,
    }
    assert Amounts.of_top_up({"budget": most}) == Amounts(
        tokens=MAX_TOKENS, steps=MAX_COUNT, cost_micros=micros(MAX_COST), seconds=MAX_COST
    )
