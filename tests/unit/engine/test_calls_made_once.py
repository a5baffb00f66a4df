"""Calls of agents whose effects can't be repeated: asked after, never made again."""

from dataclasses import replace
from datetime import timedelta

import pytest

from orchestrator.agents.agent import CallRequest
from orchestrator.domain.call import CallResult, CallStatus
from orchestrator.domain.fault import Fault
from orchestrator.domain.ids import Seq
from orchestrator.domain.step import AttemptFailed, CallFinished, CallParked
from orchestrator.engine.calls import Outcome
from orchestrator.engine.facts import gave_up
from orchestrator.engine.parked import UNANSWERED
from tests.unit.engine.making import (
    CRM,
    MAIL,
    NOW,
    FixedCaller,
    calls_of,
    due,
    failure,
    finished,
    made,
    mailed,
    silently,
    snapshot,
    success,
)


async def test_a_call_that_was_begun_is_never_made_again() -> None:
    caller = FixedCaller(known=success(sent=True))
    assert await mailed(caller, was_started=True) == Outcome(
        body=finished("success", of=MAIL, output={"sent": True}),
        change={"collected_data": {"sent": True}},
    )
    assert caller.traffic == (0, 1)


async def test_what_the_journal_says_of_its_effects_counts_whatever_is_declared_now() -> None:
    caller, begun = FixedCaller(known=success(sent=True)), due(MAIL, was_started=True)
    begun = replace(begun, call=replace(begun.call, effects="at_most_once"))
    declared = replace(MAIL, effects="idempotent", status_url=None)
    assert (await made(caller, begun, declared)).body == finished(
        "success", of=MAIL, output={"sent": True}
    )
    assert caller.traffic == (0, 1)


async def test_a_call_that_was_begun_is_a_persons_where_its_agent_is_gone() -> None:
    caller, begun = FixedCaller(), due(MAIL, was_started=True)
    begun = replace(begun, call=replace(begun.call, effects="at_most_once"))
    found = await calls_of(caller).make(begun, snapshot(), None, announce=silently)
    assert found is not None
    assert isinstance(found.body, CallFinished)
    assert (found.body.status, found.body.until) == (CallStatus.ACCEPTED, None)
    assert "(there is no agent 'mail' any more)" in (found.body.error or "")
    assert caller.traffic == (0, 0)


async def test_an_idempotent_agent_is_called_again_when_its_call_was_begun() -> None:
    caller = FixedCaller()
    await calls_of(caller).make(due(was_started=True), snapshot(), CRM, announce=silently)
    assert caller.traffic == (1, 0)


async def test_a_sent_call_that_failed_is_asked_after_and_not_repeated() -> None:
    caller = FixedCaller(failure("timed out"), known=failure("no address", retryable=False))
    assert (await mailed(caller)).body == finished("error", of=MAIL, error="no address")
    assert caller.traffic == (1, 1)


async def test_a_call_that_surely_was_not_sent_is_tried_again() -> None:
    caller = FixedCaller(failure("refused", was_sent=False, fault=Fault.UNAVAILABLE))
    assert isinstance((await mailed(caller)).body, AttemptFailed)
    assert caller.traffic == (1, 0)


async def test_a_call_that_our_own_lease_held_back_spends_no_try() -> None:
    caller = FixedCaller(failure("this worker lost its lease", was_sent=False))
    parked = (await mailed(caller)).body
    assert isinstance(parked, CallParked)
    assert (parked.cause, parked.reason) == ("lease", "this worker lost its lease")
    assert parked.until - NOW < timedelta(seconds=1)


async def test_an_error_that_stays_needs_no_question() -> None:
    caller = FixedCaller(failure("no", retryable=False))
    assert (await mailed(caller)).body == finished("error", of=MAIL, error="no")
    assert caller.traffic == (1, 0)


async def test_an_agent_that_still_works_on_it_has_so_long() -> None:
    caller = FixedCaller(known=CallResult(status=CallStatus.ACCEPTED))
    found = await mailed(caller, was_started=True)
    assert found.body == finished("accepted", of=MAIL, until=NOW + timedelta(hours=2))


@pytest.mark.parametrize(
    ("known", "said"),
    [
        (None, "it does not know the call"),
        (failure("unreachable"), "unreachable"),
        (CallResult(status=CallStatus.ERROR, retryable=True), "it does not say"),
    ],
)
async def test_where_nobody_knows_what_became_of_it_a_person_is_asked(
    known: CallResult | None, said: str
) -> None:
    caller = FixedCaller(known=known)
    body = (await mailed(caller, was_started=True)).body
    assert isinstance(body, CallFinished)
    assert (body.status, body.until) == (CallStatus.ACCEPTED, None)
    assert body.error is not None
    assert body.error.startswith("a person: whether call 3/1 of agent 'mail' took effect")
    assert f"({said})" in body.error
    assert caller.traffic == (0, 1)


@pytest.mark.parametrize(
    ("minutes_in_vain", "retry_after_seconds", "seconds"),
    [(0.01, None, 1.5), (1, None, 45), (60, None, 225), (1, 120.0, 120)],
    ids=["a moment", "a minute", "an hour", "the agent names a time"],
)
async def test_an_agent_that_may_say_it_later_is_asked_at_growing_distances_and_journaled_once(
    minutes_in_vain: float, retry_after_seconds: float | None, seconds: float
) -> None:
    known = failure("answered HTTP 503", retry_after_seconds=retry_after_seconds)
    caller, begun = FixedCaller(known=known), due(MAIL, was_started=True)
    since = NOW - timedelta(minutes=minutes_in_vain)
    first = (await made(caller, begun, MAIL)).body
    assert isinstance(first, CallFinished)
    assert (first.status, first.until) == (CallStatus.ACCEPTED, None)
    assert first.ask_at is not None
    assert first.ask_at >= NOW + timedelta(seconds=1.5)
    again = (await made(caller, replace(begun, is_late=True, asked_since=since), MAIL)).body
    assert again == CallParked(
        step=Seq(3),
        call=1,
        agent=MAIL.id,
        target="status/mail",
        cause=UNANSWERED,
        reason=first.error or "",
        until=NOW + timedelta(seconds=seconds),
    )
    assert caller.traffic == (0, 2)


async def test_what_its_agent_will_never_say_is_asked_once() -> None:
    caller = FixedCaller(known=failure("answered HTTP 400", retryable=False, is_unsure=True))
    body = (await mailed(caller, was_started=True)).body
    assert isinstance(body, CallFinished)
    assert (body.status, body.ask_at) == (CallStatus.ACCEPTED, None)


async def test_a_call_whose_later_answer_never_came_is_asked_after() -> None:
    caller, late = FixedCaller(known=success(sent=True)), due(MAIL, was_started=True)
    found = await made(caller, replace(late, is_late=True), MAIL)
    assert found.body == finished("success", of=MAIL, output={"sent": True})
    assert caller.traffic == (0, 1)


async def test_a_later_answer_that_never_came_is_an_error_where_the_key_is_honoured() -> None:
    """It was parked once, so that it was announced like one that may not go out twice."""
    caller, late = FixedCaller(), due(was_started=True)
    found = await made(caller, replace(late, is_late=True), CRM)
    assert found.body == gave_up(late.step, late.call)
    assert caller.traffic == (0, 0)


class HeldBackOnce(FixedCaller):
    """Its first question is held back by a lease that was just lost."""

    async def status(self, request: CallRequest) -> CallResult | None:
        known = await super().status(request)
        is_first = len(self.questions) == 1
        return failure("the lease was lost", was_sent=False) if is_first else known


async def test_a_question_that_was_held_back_is_asked_again_and_no_person_is() -> None:
    caller = HeldBackOnce(known=success(receipt="R-1"))
    found = await mailed(caller, was_started=True)
    assert isinstance(found.body, CallFinished)
    assert found.body.status is CallStatus.SUCCESS
    assert caller.traffic == (0, 2)
