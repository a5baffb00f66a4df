"""What is set aside for a turn, and what its request says of the answer's length."""

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchestrator.domain.budget import NO_BUDGET, Allowance, Budget
from orchestrator.domain.decision import Usage
from orchestrator.domain.snapshot import Snapshot
from orchestrator.planners.chat.options import ModelOptions, Price
from orchestrator.planners.chat.reserve import (
    BOUNDED_OUTPUT_TOKENS,
    LOST_OUTPUT_TOKENS,
    Reserved,
    reserve,
)
from orchestrator.planners.planner import OverBudget
from tests.unit.planners.journal import new_task

PRICE = Price(input=1.0, output=4.0)
TOKENS = Budget(tokens=10**9)


def allowed(allowance: Allowance, budget: Budget = NO_BUDGET) -> Snapshot:
    task = new_task()
    return replace(task, allowance=allowance, task=replace(task.task, budget=budget))


def reserved(
    snapshot: Snapshot, *, configured: int | None = None, can_bound: bool = True
) -> Reserved:
    """For a prompt of 100 tokens."""
    options = ModelOptions(max_output_tokens=configured, price=PRICE)
    return reserve(snapshot, prompt_bytes=300, options=options, can_bound=can_bound)


@pytest.mark.parametrize(
    ("allowance", "budget", "bound"),
    [
        (Allowance(tokens=2000), TOKENS, 1900),
        (Allowance(tokens=200_000), TOKENS, BOUNDED_OUTPUT_TOKENS),
        (Allowance(tokens=200_000, cost_micros=4900), NO_BUDGET, 1200),
        (Allowance(tokens=1300, cost_micros=4900), TOKENS, 1200),
        (Allowance(tokens=1200, cost_micros=4900), TOKENS, 1100),
    ],
)
def test_an_answer_is_bound_by_what_is_set_aside_for_it(
    allowance: Allowance, budget: Budget, bound: int
) -> None:
    found = reserved(allowed(allowance, budget))
    assert found.max_output_tokens == bound
    lost = min(bound, LOST_OUTPUT_TOKENS)
    assert found.usage == Usage(input_tokens=100, output_tokens=lost)
    assert found.cost_micros == 100 + 4 * lost


def test_a_task_without_a_budget_is_asked_as_before() -> None:
    found = reserved(allowed(Allowance(tokens=200_000)))
    assert (found.max_output_tokens, found.usage.output_tokens) == (None, 1000)


@pytest.mark.parametrize("configured", [500, 5000])
def test_a_bound_that_every_request_has_is_said_once(configured: int) -> None:
    found = reserved(allowed(Allowance(tokens=10_000), TOKENS), configured=configured)
    assert (found.max_output_tokens, found.usage.output_tokens) == (None, configured)


def test_a_client_that_takes_no_bound_in_a_request_is_given_none() -> None:
    found = reserved(allowed(Allowance(tokens=10_000), TOKENS), can_bound=False)
    assert (found.max_output_tokens, found.usage.output_tokens) == (None, 1000)


@example(tokens=10_000, cost_micros=1000, prices=(0.0, 1.0000000000000002))
@example(tokens=10_000, cost_micros=1000, prices=(0.0, 5e-324))
@given(
    tokens=st.integers(0, 10_000),
    cost_micros=st.integers(0, 50_000),
    prices=st.tuples(st.floats(0, 20), st.floats(0, 20)),
)
def test_what_is_set_aside_always_fits(
    tokens: int, cost_micros: int, prices: tuple[float, float]
) -> None:
    snapshot = allowed(Allowance(tokens=tokens, cost_micros=cost_micros), TOKENS)
    options = ModelOptions(price=Price(input=prices[0], output=prices[1]))
    try:
        found = reserve(snapshot, prompt_bytes=300, options=options, can_bound=True)
    except OverBudget:
        return
    assert found.max_output_tokens is not None
    most = replace(found.usage, output_tokens=found.max_output_tokens)
    assert most.total <= tokens
    assert options.cost(most) <= cost_micros
    assert found.usage.output_tokens >= 1000
