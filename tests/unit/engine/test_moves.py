from dataclasses import replace
from datetime import timedelta

import pytest

from orchestrator.domain.budget import Budget
from orchestrator.domain.call import CallStatus
from orchestrator.domain.decision import Complete, Delegate, Fail, Wait
from orchestrator.domain.event import CLI
from orchestrator.domain.ids import Seq
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.step import (
    Cancelled,
    Completed,
    Failed,
    Forked,
    Rested,
    Retried,
    StepBody,
)
from orchestrator.engine.moves import (
    Abandon,
    Ask,
    Finish,
    GiveUp,
    MakeCalls,
    Move,
    Sleep,
    TimeOut,
    next_move,
)
from orchestrator.engine.options import TaskLimits
from tests.unit.engine.journals import (
    BEFORE,
    BEGAN,
    LATER,
    NOW,
    accepted,
    attempt,
    collects,
    decided,
    delegated,
    event,
    finished,
    model_failed,
    snapshot,
    started,
)

LIMITS = TaskLimits(max_steps=20, max_tokens=1000, max_age=timedelta(days=1))
WAITS = decided(Wait(waiting_for="the customer"))
FOR_EVER = BEGAN + timedelta(seconds=1) + LIMITS.max_age
"""When a task that waits for an event alone is looked at again: its age limit."""


def move(state: Snapshot) -> Move:
    return next_move(state, now=NOW, limits=LIMITS)


def due(answer: Move) -> list[tuple[int, int, int, bool]]:
    """(step, call, attempt, was started) of the calls to be made."""
    assert isinstance(answer, MakeCalls), answer
    return [(d.step, d.call.number, d.attempt, d.was_started) for d in answer.calls]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        pytest.param(snapshot(), Ask(attempt=1), id="a new task"),
        pytest.param(snapshot(event(a=1)), Ask(attempt=1), id="an event before the first turn"),
        pytest.param(snapshot(decided(Delegate())), Ask(attempt=1), id="a decision without calls"),
        pytest.param(snapshot(delegated("crm"), finished()), Ask(attempt=1), id="all calls done"),
        pytest.param(
            snapshot(delegated("crm"), finished(status=CallStatus.ERROR)),
            Ask(attempt=1),
            id="a call failed for good",
        ),
        pytest.param(
            snapshot(delegated("crm"), finished(status=CallStatus.INPUT_REQUIRED)),
            Ask(attempt=1),
            id="an agent asks back",
        ),
        pytest.param(
            snapshot(model_failed(at=BEFORE), model_failed(at=BEFORE, nth=2)),
            Ask(attempt=3),
            id="the model failed twice and is due",
        ),
        pytest.param(
            snapshot(model_failed(at=LATER)),
            Sleep(waiting_for="another try of the model", until=LATER),
            id="the model failed and is not due",
        ),
        pytest.param(
            snapshot(WAITS), Sleep(waiting_for="the customer", until=FOR_EVER), id="it waits"
        ),
        pytest.param(
            snapshot(decided(Wait(waiting_for="noon", until=LATER))),
            Sleep(waiting_for="noon", until=LATER),
            id="it waits for a time",
        ),
        pytest.param(
            snapshot(decided(Wait(waiting_for="noon", until=BEFORE))),
            TimeOut(waiting_for="noon"),
            id="the time came",
        ),
        pytest.param(
            snapshot(decided(Wait(waiting_for="noon", until=BEFORE)), event("timeout")),
            Ask(attempt=1),
            id="the time came and is journaled",
        ),
        pytest.param(snapshot(WAITS, event(a=1)), Ask(attempt=1), id="an event ends the wait"),
        pytest.param(
            snapshot(WAITS, Rested(waiting_for="the customer")),
            Sleep(waiting_for="the customer", until=FOR_EVER),
            id="a look at a task that waits",
        ),
        pytest.param(
            snapshot(collects(WAITS, id=1)),
            Finish(outcome=Completed(result={"id": 1}, by="rule")),
            id="a complete task does not wait",
        ),
        pytest.param(
            snapshot(collects(event(), id=1)),
            Finish(outcome=Completed(result={"id": 1}, by="rule")),
            id="an event completes it",
        ),
        pytest.param(
            snapshot(delegated("crm"), collects(finished(), id=1, more=2)),
            Finish(outcome=Completed(result={"id": 1}, by="rule")),
            id="a result completes it",
        ),
        pytest.param(
            snapshot(delegated("crm"), finished(), required=()),
            Ask(attempt=1),
            id="nothing is required",
        ),
        pytest.param(
            snapshot(delegated("crm"), attempt(at=LATER)),
            Sleep(waiting_for="another try of crm", until=LATER),
            id="a retry is not due",
        ),
        pytest.param(
            snapshot(delegated("crm"), accepted(until=LATER)),
            Sleep(waiting_for="a later answer of crm", until=LATER),
            id="an agent answers later",
        ),
        pytest.param(
            snapshot(delegated("crm"), accepted(error="a person: unknown")),
            Sleep(waiting_for="a person: unknown", until=FOR_EVER),
            id="a person has to answer",
        ),
        pytest.param(
            snapshot(delegated("crm"), accepted(until=LATER), finished()),
            Ask(attempt=1),
            id="the later answer came",
        ),
        pytest.param(
            snapshot(delegated("crm"), finished(), accepted(until=LATER)),
            Ask(attempt=1),
            id="a promise to answer that comes behind the answer",
        ),
        pytest.param(
            snapshot(decided(Fail(reason="no")), Failed(reason="no"), Retried()),
            Ask(attempt=1),
            id="a person retries what the planner failed",
        ),
        pytest.param(
            snapshot(decided(Complete()), Failed(reason="missing"), Retried()),
            Ask(attempt=1),
            id="a person retries a completion that was refused",
        ),
        pytest.param(
            snapshot(model_failed(at=LATER), Failed(reason="model"), Retried()),
            Ask(attempt=1),
            id="a person retries what the model failed",
        ),
        pytest.param(
            snapshot(WAITS, Failed(reason="limit"), Retried()),
            Ask(attempt=1),
            id="a person retries what waited too long",
        ),
    ],
)
def test_the_journal_says_what_comes_next(state: Snapshot, expected: Move) -> None:
    assert move(state) == expected


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (snapshot(delegated("crm", "mail")), [(2, 1, 1, False), (2, 2, 1, False)]),
        (snapshot(delegated("crm", "mail"), finished(1)), [(2, 2, 1, False)]),
        (snapshot(delegated("crm"), event(a=1)), [(2, 1, 1, False)]),
        (snapshot(delegated("crm"), started()), [(2, 1, 1, True)]),
        (snapshot(delegated("crm"), attempt(at=BEFORE)), [(2, 1, 2, False)]),
        (snapshot(delegated("crm"), attempt(at=NOW, nth=3)), [(2, 1, 4, False)]),
        (snapshot(delegated("crm"), started(), attempt(at=BEFORE)), [(2, 1, 2, False)]),
        (snapshot(delegated("crm"), attempt(at=BEFORE), started()), [(2, 1, 2, True)]),
        (snapshot(delegated("crm", "mail"), attempt(1, at=LATER)), [(2, 2, 1, False)]),
        (snapshot(delegated("crm", "mail"), accepted(1, until=LATER)), [(2, 2, 1, False)]),
        (snapshot(delegated("crm"), finished(), delegated("crm")), [(4, 1, 1, False)]),
    ],
)
def test_calls_without_a_result_are_due(
    state: Snapshot, expected: list[tuple[int, int, int, bool]]
) -> None:
    assert due(move(state)) == expected


def test_a_retry_by_a_person_counts_attempts_anew_and_keeps_what_was_begun() -> None:
    ended = Failed(reason="deadline")
    again = snapshot(delegated("crm"), attempt(at=LATER, nth=4), ended, Retried())
    assert due(move(again)) == [(2, 1, 1, False)]
    begun = snapshot(delegated("crm"), started(), ended, Retried())
    assert due(move(begun)) == [(2, 1, 1, True)]


def test_an_agent_that_never_answers_is_given_up() -> None:
    answer = move(snapshot(delegated("crm", "mail"), accepted(1, until=BEFORE), finished(2)))
    assert isinstance(answer, GiveUp)
    assert [(step, c.number) for step, c in answer.calls] == [(2, 1)]


def test_the_earliest_of_several_times_is_waited_for() -> None:
    much_later = LATER + timedelta(hours=1)
    state = snapshot(delegated("a", "b"), accepted(1, until=much_later), attempt(2, at=LATER))
    answer = move(state)
    assert isinstance(answer, Sleep)
    assert answer.until == LATER


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (snapshot(deadline=BEFORE), "deadline"),
        (snapshot(collects(event(), id=1), deadline=NOW), "deadline"),
        (snapshot(*[event()] * 19), "limit"),
        (snapshot(decided(Delegate(), tokens=1000)), "limit"),
        (snapshot(decided(Delegate(), tokens=50), budget=Budget(tokens=50)), "limit"),
        (snapshot(event("pause"), deadline=BEFORE), "deadline"),
    ],
)
def test_a_task_beyond_its_limits_fails(state: Snapshot, code: str) -> None:
    answer = move(state)
    assert isinstance(answer, Finish)
    assert isinstance(answer.outcome, Failed)
    assert answer.outcome.code == code


def test_a_task_that_is_too_old_fails() -> None:
    failed = Failed(reason=f"not done within {LIMITS.max_age}", code="limit")
    assert next_move(snapshot(WAITS), now=FOR_EVER, limits=LIMITS) == Finish(outcome=failed)


def test_what_the_last_step_within_the_limits_completed_is_completed() -> None:
    state = snapshot(delegated("crm", tokens=1000), collects(finished(), id=1))
    assert move(state) == Finish(outcome=Completed(result={"id": 1}, by="rule"))


def test_a_budget_of_its_own_may_be_larger_than_the_usual_one() -> None:
    state = snapshot(decided(Delegate(), tokens=1500), budget=Budget(tokens=2000))
    assert move(state) == Ask(attempt=1)


def test_limits_count_anew_after_a_retry_by_a_person() -> None:
    used = [decided(Delegate(), tokens=600)] * 18
    assert move(snapshot(*used, Failed(reason="limit"), Retried())) == Ask(attempt=1)


def test_a_wait_ends_at_the_deadline_at_the_latest() -> None:
    assert move(snapshot(WAITS, deadline=LATER)) == Sleep(waiting_for="the customer", until=LATER)
    paused = snapshot(event("pause"), deadline=LATER)
    assert move(paused) == Sleep(waiting_for="a resume event", until=LATER, is_paused=True)


@pytest.mark.parametrize(
    "state",
    [
        snapshot(event("pause")),
        snapshot(event("resume"), event("pause"), event(a=1)),
        snapshot(delegated("crm"), event("pause")),
        snapshot(collects(event(), id=1), event("pause")),
    ],
)
def test_a_paused_task_does_nothing(state: Snapshot) -> None:
    assert move(state) == Sleep(waiting_for="a resume event", until=FOR_EVER, is_paused=True)


def test_a_resumed_task_goes_on_where_it_was() -> None:
    pause, resume = event("pause"), event("resume")
    assert due(move(snapshot(delegated("crm"), pause, resume))) == [(2, 1, 1, False)]
    waits = Sleep(waiting_for="the customer", until=FOR_EVER)
    assert move(snapshot(WAITS, pause, resume)) == waits
    assert move(snapshot(WAITS, pause, event(a=1), resume)) == Ask(attempt=1)


UNKNOWN = CallStatus.UNKNOWN
CANCEL = event("cancel", reason="ordered twice", by="sales")


def test_a_cancel_in_the_journal_ends_the_task_whoever_reads_it() -> None:
    end = Cancelled(reason="ordered twice", by="a message (says: sales)")
    assert move(snapshot(replace(CANCEL, source=CLI))) == Finish(outcome=replace(end, by="sales"))
    assert move(snapshot(CANCEL)) == Finish(outcome=end)
    assert move(snapshot(event("pause"), CANCEL, event(a=1))) == Finish(outcome=end)
    assert move(snapshot(delegated("crm"), finished(), CANCEL)) == Finish(outcome=end)


@pytest.mark.parametrize(
    "left",
    [(), (started(),), (accepted(until=LATER),), (attempt(at=LATER),)],
    ids=["under way", "begun", "accepted", "to be tried again"],
)
def test_a_task_that_is_over_abandons_the_calls_without_a_result(
    left: tuple[StepBody, ...],
) -> None:
    answer = move(snapshot(delegated("crm", "mail"), finished(2), *left, CANCEL))
    assert isinstance(answer, Abandon)
    assert [(d.step, d.call.number) for d in answer.calls] == [(2, 1)]
    late = move(snapshot(delegated("crm", "mail"), finished(2), *left, deadline=BEFORE))
    assert isinstance(late, Abandon)


def test_the_end_names_the_calls_that_may_have_had_an_effect() -> None:
    calls = delegated("crm", "mail", "billing")
    state = snapshot(calls, finished(2), CANCEL, finished(1, UNKNOWN), finished(3, UNKNOWN))
    answer = move(state)
    assert isinstance(answer, Finish)
    assert isinstance(answer.outcome, Cancelled)
    assert answer.outcome.unknown == ("order/2/1", "order/2/3")


def test_an_abandoned_call_is_open_again_after_a_retry_and_was_begun() -> None:
    cut = (delegated("crm"), finished(1, UNKNOWN), Failed(code="deadline", reason="late"))
    assert due(move(snapshot(*cut, Retried()))) == [(2, 1, 1, True)]


FORK = Forked(task="another", step=Seq(2))
CHANGED = Forked(task="another", step=Seq(2), given={"a": 1})


@pytest.mark.parametrize(
    "copied",
    [(started(),), (accepted(until=BEFORE),), (attempt(at=LATER, nth=3),), (finished(1, UNKNOWN),)],
    ids=["begun", "accepted", "to be tried again", "abandoned"],
)
def test_a_fork_makes_the_calls_without_a_result_as_if_for_the_first_time(
    copied: tuple[StepBody, ...],
) -> None:
    state = snapshot(delegated("crm", "mail"), finished(2), *copied, FORK)
    assert due(move(state)) == [(2, 1, 1, False)]


def test_a_fork_leaves_what_ended_paused_or_spent_the_other_task() -> None:
    assert move(snapshot(CANCEL, Cancelled(), FORK)) == Ask(attempt=1)
    assert move(snapshot(event("pause"), FORK)) == Ask(attempt=1)
    assert move(snapshot(decided(Complete()), Completed(), FORK)) == Ask(attempt=1)
    assert move(snapshot(decided(Delegate(), tokens=1000), FORK)) == Ask(attempt=1)
    assert move(snapshot(model_failed(at=LATER), FORK)) == Ask(attempt=1)


def test_a_fork_keeps_a_wait_unless_it_was_given_something() -> None:
    waits = move(snapshot(WAITS, FORK))
    assert isinstance(waits, Sleep)
    assert waits.waiting_for == "the customer"
    assert move(snapshot(WAITS, CHANGED)) == Ask(attempt=1)
