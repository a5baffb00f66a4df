"""What follows where a call may never go out twice: its agent is asked, else a person."""

from dataclasses import replace
from datetime import timedelta

import pytest

from orchestrator.domain.agent import Effects
from orchestrator.domain.ids import Seq
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.step import CallParked
from orchestrator.engine.call_states import DueCall
from orchestrator.engine.moves import MakeCalls, Move, Sleep, next_move
from orchestrator.engine.options import TaskLimits
from tests.unit.engine.journals import (
    BEFORE,
    BEGAN,
    LATER,
    NOW,
    accepted,
    attempt,
    delegated,
    snapshot,
    started,
)

LIMITS = TaskLimits(max_steps=20, max_tokens=1000, max_age=timedelta(days=1))
FOR_EVER = BEGAN + timedelta(seconds=1) + LIMITS.max_age
"""When a task that waits for an event alone is looked at again: its age limit."""


def move(state: Snapshot) -> Move:
    return next_move(state, now=NOW, limits=LIMITS)


def due(answer: Move) -> DueCall:
    """The one call that is to be made, or to be asked after."""
    assert isinstance(answer, MakeCalls), answer
    (call,) = answer.calls
    return call


def test_a_call_that_undoes_another_is_what_was_said_when_it_went_out() -> None:
    """No decision says what its agent declared."""
    begun = replace(started(), effects="at_most_once")
    for bodies in ((begun,), (begun, attempt(at=BEFORE)), (begun, attempt(at=BEFORE), started())):
        assert due(move(snapshot(delegated("crm"), *bodies))).call.effects == "at_most_once"


def test_what_an_earlier_release_announced_must_not_go_out_twice_whatever_is_declared_now() -> None:
    assert due(move(snapshot(delegated("crm"), started()))).call.effects == "at_most_once"
    held = CallParked(
        step=Seq(2),
        call=1,
        target="agent/default/crm",
        cause="breaker_open",
        reason="",
        until=BEFORE,
        may_be_sent=False,
    )
    assert due(move(snapshot(delegated("crm"), held, started()))).call.effects is None
    note = accepted(error="a person: …", ask_at=BEFORE)
    assert due(move(snapshot(delegated("crm"), note))).call.effects == "at_most_once"


@pytest.mark.parametrize("effects", [None, "at_most_once"], ids=["an earlier release's", "said"])
def test_an_agent_that_never_answers_is_asked_where_it_may_not_be_called_again(
    effects: Effects | None,
) -> None:
    begun = replace(started(), effects=effects)
    late = due(move(snapshot(delegated("crm"), begun, accepted(until=BEFORE))))
    assert (late.key, late.attempt, late.was_started, late.is_late) == ((2, 1), 1, True, True)
    answer = move(snapshot(delegated("crm"), begun, accepted(until=LATER)))
    assert answer == Sleep(waiting_for="a later answer of crm", until=LATER)


def test_an_agent_that_did_not_say_what_became_of_a_call_is_asked_again() -> None:
    note = accepted(error="a person: …", ask_at=BEFORE)
    again = due(move(snapshot(delegated("crm"), started(), note)))
    assert (again.key, again.was_started) == ((2, 1), True)
    assert again.asked_since == BEGAN + timedelta(seconds=4)
    answer = move(snapshot(delegated("crm"), started(), replace(note, ask_at=LATER)))
    assert answer == Sleep(waiting_for="a person: …", until=LATER)


def test_what_is_asked_again_in_vain_waits_for_the_next_question_and_says_the_last_reason() -> None:
    note = accepted(error="a person: 500", ask_at=BEFORE)
    vain = CallParked(
        step=Seq(2), call=1, target="agent/default/crm", cause="unanswered", reason="a person: 202",
        until=LATER,
    )  # fmt: skip
    state = snapshot(delegated("crm"), started(), note)
    answer = next_move(state, now=NOW, limits=LIMITS, parked={(Seq(2), 1): vain})
    assert answer == Sleep(
        waiting_for="a person: 202", until=LATER, parked_for=("agent/default/crm",)
    )


def test_what_a_person_has_to_say_is_not_asked_for_again() -> None:
    first, last = accepted(error="a person: 500", ask_at=BEFORE), accepted(error="a person: 404")
    answer = move(snapshot(delegated("crm"), started(), first, last))
    assert answer == Sleep(waiting_for="a person: 404", until=FOR_EVER)
