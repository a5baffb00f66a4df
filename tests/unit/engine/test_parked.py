"""What can't be called now: the task sleeps, and whoever takes it up looks again."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from orchestrator.domain.ids import Seq
from orchestrator.domain.step import CallParked, StepBody
from orchestrator.engine.moves import MakeCalls, Sleep, next_move
from orchestrator.engine.options import TaskLimits
from orchestrator.engine.parked import UNANSWERED, Parked, was_told
from tests.unit.engine.journals import (
    BEFORE,
    LATER,
    NOW,
    attempt,
    delegated,
    snapshot,
    started,
)

LIMITS = TaskLimits(max_steps=20, max_tokens=1000, max_age=timedelta(days=1))


def held(number: int | None = 1, *, until: datetime, **fields: Any) -> CallParked:
    step = None if number is None else Seq(2)
    said: dict[str, Any] = {"target": "agent/default/crm", "cause": "paused", "reason": "paused"}
    return CallParked(step=step, call=number, until=until, **(said | fields))


def test_what_can_not_be_called_now_is_slept_over() -> None:
    parked: Parked = {(Seq(2), 1): held(until=LATER)}
    move = next_move(snapshot(delegated("crm")), now=NOW, limits=LIMITS, parked=parked)
    assert move == Sleep(waiting_for="paused", until=LATER, parked_for=("agent/default/crm",))


def test_the_other_calls_of_the_decision_are_made_meanwhile() -> None:
    parked: Parked = {(Seq(2), 1): held(until=LATER)}
    move = next_move(snapshot(delegated("crm", "mail")), now=NOW, limits=LIMITS, parked=parked)
    assert isinstance(move, MakeCalls)
    assert [due.call.agent for due in move.calls] == ["mail"]


def test_who_takes_a_task_up_looks_again_whatever_the_journal_says() -> None:
    move = next_move(
        snapshot(delegated("crm"), held(until=LATER, may_be_sent=False)), now=NOW, limits=LIMITS
    )
    assert isinstance(move, MakeCalls)
    assert (move.calls[0].attempt, move.calls[0].is_unsent) == (1, True)


def test_a_call_that_was_announced_after_it_was_parked_may_be_sent() -> None:
    steps = (delegated("crm"), held(until=BEFORE, may_be_sent=False), started())
    move = next_move(snapshot(*steps), now=NOW, limits=LIMITS)
    assert isinstance(move, MakeCalls)
    assert not move.calls[0].is_unsent


def test_a_model_that_can_not_be_asked_now_is_slept_over() -> None:
    parked: Parked = {None: held(None, until=LATER, target="model/m")}
    move = next_move(snapshot(), now=NOW, limits=LIMITS, parked=parked)
    assert move == Sleep(waiting_for="paused", until=LATER, parked_for=("model/m",))


def test_what_an_outage_adds_is_no_step_of_the_task() -> None:
    steps: list[StepBody] = [delegated("crm"), *[held(until=BEFORE)] * 200, *[started()] * 200]
    assert isinstance(next_move(snapshot(*steps), now=NOW, limits=LIMITS), MakeCalls)


def test_a_cause_is_told_once_between_two_tries() -> None:
    parked, busy = held(until=LATER), held(until=LATER, cause="busy")
    told = snapshot(delegated("crm"), parked).steps
    assert was_told(told, held(until=NOW))
    assert not was_told(told, busy)
    assert was_told(snapshot(delegated("crm")).steps, replace(busy, cause=UNANSWERED))
    assert not was_told(snapshot(delegated("crm"), parked, started()).steps, parked)
    assert not was_told(snapshot(delegated("crm"), parked, attempt(at=BEFORE)).steps, parked)
    assert not was_told(snapshot(delegated("crm", "crm"), held(2, until=LATER)).steps, parked)
