from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any

import pytest

from orchestrator.domain.budget import Allowance, Budget
from orchestrator.domain.call import Call, CallStatus
from orchestrator.domain.decision import Delegate, Usage, Wait
from orchestrator.domain.event import CLI
from orchestrator.domain.ids import AgentId, Seq
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.step import (
    BudgetSpent,
    CallParked,
    Completed,
    Decided,
    EventApplied,
    Failed,
    Retried,
)
from orchestrator.engine.budgets import account, fitting
from orchestrator.engine.moves import Ask, Finish, MakeCalls, Move, Sleep, next_move
from orchestrator.engine.options import TaskLimits
from tests.unit.engine.journals import (
    BEGAN,
    LATER,
    NOW,
    attempt,
    collects,
    decided,
    finished,
    model_failed,
    snapshot,
)

LIMITS = TaskLimits(max_steps=50, max_tokens=1000, max_age=timedelta(hours=1))
WAITS = Budget(cost_micros=100, when_exhausted="wait")
TURN = decided(Delegate(), tokens=900)
SPENT = BudgetSpent(resource="tokens", needed=200, left=100)


def move(state: Snapshot) -> Move:
    return next_move(state, now=NOW, limits=LIMITS)


def priced(*costs: int) -> Decided:
    """A decision whose calls have these costs."""
    calls = (
        Call(number=n, agent=AgentId("crm"), cost_micros=cost) for n, cost in enumerate(costs, 1)
    )
    return decided(Delegate(calls=tuple(calls)))


def top_up(**budget: Any) -> EventApplied:
    return EventApplied(event_type="top_up", payload={"budget": budget})


def made(answer: Move) -> list[int]:
    assert isinstance(answer, MakeCalls), answer
    return [d.call.number for d in answer.calls]


def waits_for(answer: Move) -> str:
    assert isinstance(answer, Sleep), answer
    return answer.waiting_for


def why_failed(answer: Move) -> str:
    assert isinstance(answer, Finish), answer
    assert isinstance(answer.outcome, Failed)
    return answer.outcome.reason


def test_what_was_used_is_in_the_journal_since_the_last_retry() -> None:
    state = snapshot(
        decided(Delegate(), tokens=7), Retried(), priced(5), finished(cost_micros=3), TURN
    )
    used = account(state, limits=LIMITS, now=NOW).used
    assert (used.steps, used.tokens, used.cost_micros) == (4, 900, 3)
    assert used.seconds == (NOW - BEGAN - timedelta(seconds=3)).total_seconds()


def test_a_turn_whose_answer_got_lost_is_charged_with_what_was_set_aside() -> None:
    lost = replace(
        model_failed(at=BEGAN), usage=Usage(input_tokens=40, output_tokens=500), cost_micros=60
    )
    state = snapshot(lost, budget=WAITS)
    found = account(state, limits=LIMITS, now=NOW)
    assert (found.used.attempts, found.used.tokens, found.used.cost_micros) == (1, 540, 60)
    assert found.allowance == Allowance(tokens=460, cost_micros=40)
    state = snapshot(lost, replace(lost, attempt=2), budget=WAITS)
    assert waits_for(move(state)).startswith("a top-up: ")


def test_calls_side_by_side_fit_into_the_budget_together() -> None:
    assert made(move(snapshot(priced(60, 60, 40), budget=WAITS))) == [1, 3]


def test_a_call_that_may_be_under_way_keeps_what_was_set_aside_for_it() -> None:
    state = snapshot(priced(60, 60), attempt(2, at=LATER), budget=WAITS)
    assert waits_for(move(state)) == "another try of crm, crm"


def test_a_call_that_fitted_when_it_was_decided_stays_paid_though_another_cost_more() -> None:
    state = snapshot(priced(50, 50, 10), finished(1, cost_micros=90), budget=WAITS)
    assert made(move(state)) == [2]


def test_a_call_that_fitted_when_the_budget_was_topped_up_stays_paid() -> None:
    steps = (priced(60, 60), top_up(cost=0.00002), finished(1, cost_micros=90))
    assert made(move(snapshot(*steps, budget=WAITS))) == [2]


def test_what_fitted_and_surely_never_went_out_waits_for_a_top_up() -> None:
    parked = CallParked(
        step=Seq(2), call=2, target="t", cause="busy", reason="r", until=BEGAN, may_be_sent=False
    )
    state = snapshot(priced(50, 50), parked, finished(1, cost_micros=90), budget=WAITS)
    assert waits_for(move(state)).startswith("a top-up: ")


def test_a_call_that_cost_less_than_declared_makes_room_for_another() -> None:
    state = snapshot(priced(60, 60), finished(1, cost_micros=10), budget=WAITS)
    assert made(move(state)) == [2]


def test_calls_that_do_not_fit_wait_for_a_top_up_and_go_out_then() -> None:
    dear = (priced(60, 60), finished(1, cost_micros=60))
    assert waits_for(move(snapshot(*dear, budget=WAITS))) == (
        "a top-up: the next call may cost 0.00006; 0.00006 spent, the budget is 0.0001"
    )
    assert made(move(snapshot(*dear, top_up(cost=0.00002), budget=WAITS))) == [2]


def test_without_a_word_about_it_an_exhausted_budget_fails_the_task() -> None:
    dear = (priced(60, 60), finished(1, cost_micros=60))
    assert "0.0001" in why_failed(move(snapshot(*dear, budget=Budget(cost_micros=100))))


@pytest.mark.parametrize(
    ("budget", "steps", "more"),
    [
        (Budget(steps=2), (TURN,), {"steps": 2}),
        (Budget(attempts=1), (model_failed(at=BEGAN),), {"attempts": 1}),
        (Budget(tokens=900), (TURN,), {"tokens": 1}),
        (Budget(cost_micros=3), (priced(3), finished(cost_micros=3)), {"cost": 0.1}),
        (Budget(seconds=60), (TURN,), {"seconds": 3600}),
        (Budget(), (TURN, SPENT), {"tokens": 100}),
    ],
    ids=["steps", "attempts", "tokens", "cost", "seconds", "a turn that does not fit"],
)
def test_each_part_of_a_budget_ends_can_be_waited_for_and_topped_up(
    budget: Budget, steps: tuple[Any, ...], more: dict[str, Any]
) -> None:
    patient = Budget(**{**budget.to_json(), "when_exhausted": "wait"})  # type: ignore[arg-type]
    assert why_failed(move(snapshot(*steps, budget=budget)))
    assert waits_for(move(snapshot(*steps, budget=patient))).startswith("a top-up: ")
    assert isinstance(move(snapshot(*steps, top_up(**more), budget=patient)), Ask)


def test_what_is_added_counts_from_what_is_used() -> None:
    state = snapshot(TURN, TURN, top_up(tokens=10))
    found = account(state, limits=LIMITS, now=NOW)
    assert (found.used.tokens, found.allowed.tokens) == (1800, 1810)
    assert found.allowance == Allowance(tokens=10, cost_micros=None)


@pytest.mark.parametrize(
    "payload",
    [{}, {"budget": 5}, {"budget": {"tokens": "1", "cost": -1, "steps": True, "seconds": None}}],
)
def test_a_top_up_that_is_not_one_adds_nothing(payload: Any) -> None:
    state = snapshot(EventApplied(event_type="top_up", payload=payload))
    before = account(snapshot(), limits=LIMITS, now=NOW).allowed
    assert account(state, limits=LIMITS, now=NOW).allowed == before


MOST = Budget(steps=60, attempts=120, tokens=3000, cost_micros=500, seconds=7200)
CAPPED = replace(LIMITS, max_cost_micros=100, ceilings=MOST)
GREEDY = {"steps": 10**6, "attempts": 10**6, "tokens": 10**9, "cost": 1e6, "seconds": 1e9}


def allowed_of(state: Snapshot, limits: TaskLimits = CAPPED) -> dict[str, Any]:
    return asdict(account(state, limits=limits, now=NOW).allowed)


def test_of_a_tasks_budget_and_the_ceiling_the_smaller_holds() -> None:
    greedy = Budget(steps=10**6, attempts=10**6, tokens=10**9, cost_micros=10**12, seconds=1e9)
    most = {name: value for name, value in asdict(MOST).items() if name != "when_exhausted"}
    assert allowed_of(snapshot(budget=greedy)) == most
    modest = Budget(steps=1, attempts=2, tokens=2999, cost_micros=4, seconds=5)
    assert allowed_of(snapshot(budget=modest))["tokens"] == 2999
    ten_times = allowed_of(snapshot(budget=greedy), replace(LIMITS, max_cost_micros=7))
    assert ten_times == {
        "steps": 500, "attempts": 1000, "tokens": 10_000, "cost_micros": 70, "seconds": 36_000
    }  # fmt: skip


def test_events_top_a_budget_up_to_the_ceiling_and_no_further() -> None:
    most = {name: value for name, value in asdict(MOST).items() if name != "when_exhausted"}
    assert allowed_of(snapshot(top_up(**GREEDY))) == most
    assert allowed_of(snapshot(*[top_up(tokens=900)] * 9))["tokens"] == 3000
    assert allowed_of(snapshot(top_up(tokens=900)))["tokens"] == 1900


def test_a_command_tops_a_budget_up_beyond_the_ceiling_and_no_event_takes_it_back() -> None:
    ours = replace(top_up(tokens=9000), source=CLI)
    assert allowed_of(snapshot(ours))["tokens"] == 10_000
    assert allowed_of(snapshot(ours, top_up(tokens=5)))["tokens"] == 10_000
    claims = replace(top_up(tokens=9000), payload={"budget": {"tokens": 9000}, "by": CLI})
    assert allowed_of(snapshot(claims))["tokens"] == 3000


def test_a_task_at_its_ceiling_says_who_can_help() -> None:
    steps = (decided(Delegate(), tokens=3000), top_up(tokens=5000))
    state = snapshot(*steps, budget=Budget(tokens=10**6, when_exhausted="wait"))
    rest = next_move(state, now=NOW, limits=CAPPED)
    assert waits_for(rest) == (
        "a top-up by `orchestrator tasks top-up` (messages can't raise tokens further): "
        "3000 tokens used, the budget is 3000"
    )


def test_however_often_its_time_is_topped_up_its_end_is_a_date() -> None:
    state = snapshot(*[replace(top_up(seconds=1e9), source=CLI)] * 500)
    assert account(state, limits=LIMITS, now=NOW).ends.year > 2300


def test_a_top_up_wakes_no_wait_for_an_event() -> None:
    wait = decided(Wait(waiting_for="the customer"))
    assert waits_for(move(snapshot(wait, top_up(tokens=5)))) == "the customer"


def test_nothing_extends_a_deadline() -> None:
    state = snapshot(TURN, top_up(seconds=1e6), deadline=NOW, budget=WAITS)
    assert why_failed(move(state)).startswith("not done by its deadline")


def test_a_task_does_not_wait_for_a_top_up_for_ever() -> None:
    state = snapshot(TURN, SPENT, budget=WAITS)
    rest = move(state)
    assert isinstance(rest, Sleep)
    assert rest.until is not None
    assert why_failed(next_move(state, now=rest.until, limits=LIMITS))


def test_a_budget_that_is_used_up_by_what_completed_the_task_is_enough() -> None:
    state = snapshot(priced(100), collects(finished(cost_micros=100), id=1), budget=WAITS)
    assert move(state) == Finish(outcome=Completed(result={"id": 1}, by="rule"))


def test_calls_of_the_turn_that_used_the_last_token_are_made() -> None:
    turn = decided(Delegate(calls=(Call(number=1, agent=AgentId("crm")),)), tokens=1000)
    assert made(move(snapshot(turn))) == [1]
    assert why_failed(move(snapshot(turn, finished(status=CallStatus.ERROR))))


def test_what_fits_is_chosen_in_order_beside_what_is_held() -> None:
    assert fitting([5, 9, 2, 0], left_micros=10, held_micros=3) == [True, False, True, True]
    assert fitting([5, 0], left_micros=3, held_micros=9) == [False, True]
    assert fitting([5], left_micros=None, held_micros=9) == [True]
