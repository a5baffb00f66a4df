"""What `orchestrator tasks history` makes of a journal: calls counted, no false figure shown."""

import json
from collections.abc import Sequence

import pytest

from orchestrator.cli.task_history import Happening, happening, history_table, totals
from orchestrator.domain.call import CallStatus
from orchestrator.domain.decision import Kept, ModelMessage, Wait
from orchestrator.domain.ids import AgentId, Seq
from orchestrator.domain.json import JsonObject
from orchestrator.domain.step import (
    AttemptFailed,
    CallFinished,
    CallParked,
    CallStarted,
    Decided,
    EventApplied,
    Retried,
    StepBody,
    dump_body,
)
from orchestrator.engine.facts import NOT_MADE, no_agent
from orchestrator.store.history import StepRow
from tests.unit.engine.journals import LATER, NOW

MAIL = AgentId("mail")


def row(body: StepBody, seq: int = 3) -> StepRow:
    """As the view `task_steps` shows it."""
    document = json.loads(dump_body(body))
    return StepRow(
        seq=Seq(seq),
        at=NOW,
        kind=body.kind,
        agent=document.get("agent"),
        status=document.get("status"),
        attempt=document.get("attempt"),
        duration_ms=document.get("duration_ms"),
        input_tokens=None,
        output_tokens=None,
        cost=None,
        summary=None,
        body=document,
        change=None,
    )


def shown(body: StepBody) -> Happening:
    return happening(row(body), epoch=1)


def result(
    status: CallStatus, *, call: int = 1, error: str | None = None, took: int = 0, attempt: int = 1
) -> CallFinished:
    return CallFinished(
        step=Seq(2),
        call=call,
        agent=MAIL,
        status=status,
        error=error,
        duration_ms=took,
        attempt=attempt,
    )


def parked(*, may_be_sent: bool) -> CallParked:
    return CallParked(
        step=Seq(2),
        call=1,
        agent=MAIL,
        target="agent/default/mail",
        cause="paused",
        reason="paused by ops",
        until=LATER,
        may_be_sent=may_be_sent,
    )


STARTED = CallStarted(step=Seq(2), call=1, agent=MAIL)
FAILED = AttemptFailed(step=Seq(2), call=1, agent=MAIL, attempt=1, error="503", retry_at=NOW)
ACCEPTED = result(CallStatus.ACCEPTED, took=20)
ANSWERED = result(CallStatus.SUCCESS)
MADE = result(CallStatus.SUCCESS, took=20)
NEVER = result(CallStatus.ERROR, error=NOT_MADE)
ASKED = result(CallStatus.ACCEPTED, error="a person: whether call 2/1 took effect is unknown")
CUT = result(CallStatus.UNKNOWN, error="the task ended before its answer", attempt=2)


@pytest.mark.parametrize(
    ("steps", "calls"),
    [
        pytest.param([ACCEPTED, ANSWERED], 1, id="a 202, answered later"),
        pytest.param([STARTED, ASKED, ANSWERED], 1, id="resolved by a person"),
        pytest.param([parked(may_be_sent=False), NEVER], 0, id="parked, then cancelled"),
        pytest.param([NEVER], 0, id="cancelled before it went out"),
        pytest.param(
            [result(CallStatus.ERROR, error=no_agent(MAIL))], 0, id="its agent was removed"
        ),
        pytest.param([parked(may_be_sent=False), ANSWERED], 0, id="parked, and answered by hand"),
        pytest.param([parked(may_be_sent=False), STARTED, MADE], 1, id="parked, then made"),
        pytest.param([FAILED, parked(may_be_sent=True), CUT], 1, id="tried, parked, cut"),
        pytest.param([FAILED, MADE], 1, id="a second try"),
        pytest.param([MADE, result(CallStatus.SUCCESS, call=2, took=9)], 2, id="two of a step"),
    ],
)
def test_distinct_calls_that_went_out_are_counted(steps: Sequence[StepBody], calls: int) -> None:
    rows = [row(body, seq) for seq, body in enumerate(steps, 3)]
    assert totals([happening(r, epoch=1) for r in rows], rows)["calls"] == calls


def test_what_a_fork_copied_is_counted_by_the_other_task() -> None:
    rows = [row(MADE)]
    assert totals([happening(r, epoch=0) for r in rows], rows)["calls"] == 0


SAID: JsonObject = {"by": "sales", "reason": "typo"}


@pytest.mark.parametrize("event_type", ["cancel", "pause", "resume", "top_up", "agent_result"])
def test_of_what_a_person_told_the_task_who_and_why_are_shown(event_type: str) -> None:
    found = shown(EventApplied(event_type=event_type, payload=SAID, source="cli"))
    assert (found.who, found.why) == ("sales", "typo")


@pytest.mark.parametrize("event_type", ["cancel", "pause", "resume", "top_up", "agent_result"])
def test_who_sent_a_message_is_told_apart_from_who_it_says_it_was(event_type: str) -> None:
    claims: list[JsonObject] = [{"by": "root"}, {"by": {"is": "root"}}, {"by": "root" * 100}]
    for said in claims:
        event = EventApplied(event_type=event_type, payload=said, source="events/0/1")
        who = shown(event).who
        assert who.startswith("events/0/1 (says: ")
        assert len(who) < 120
    nobody = EventApplied(event_type=event_type, payload={}, source="events/0/1")
    assert shown(nobody).who == "events/0/1"


@pytest.mark.parametrize("event_type", ["data", "answer", "shipped"])
def test_of_an_event_with_data_by_and_reason_are_data(event_type: str) -> None:
    found = shown(EventApplied(event_type=event_type, payload=SAID, source="events/0/1"))
    assert (found.who, found.why) == ("events/0/1", "")


def test_who_sent_a_task_back_to_work_is_shown_where_it_was_said() -> None:
    found = shown(Retried(by="ops", reason="the key is mended"))
    assert (found.who, found.why) == ("ops", "the key is mended")
    assert (shown(Retried()).who, shown(Retried()).why) == ("a person", "")


def test_what_of_an_answer_was_not_kept_is_shown_with_its_decision() -> None:
    kept = Kept(by="openai:m#1", cut=("reasoning: 600000 bytes, over the bound of 512000",))
    message = ModelMessage(text="I wait.", kept=kept)
    found = shown(Decided(decision=Wait(waiting_for="x"), message=message))
    told = "of the answer not kept: reasoning: 600000 bytes, over the bound of 512000"
    assert found.why == f"I wait. ({told})"


def test_a_call_that_goes_out_is_not_said_to_go_out_at_most_once() -> None:
    assert shown(STARTED).why == "from here on it may have its effect"


def test_a_call_whose_outcome_nobody_knows_is_not_shown_as_accepted() -> None:
    found = shown(ASKED)
    assert (found.who, found.what) == ("engine", "call 2/1 of mail: outcome unknown")
    assert found.why.startswith("waits for a person: whether call 2/1")


def test_a_call_that_the_agent_accepted_is_shown_as_such() -> None:
    found = shown(ACCEPTED)
    assert (found.who, found.what) == ("mail", "call 2/1 of mail: accepted")


@pytest.mark.parametrize("body", [CUT, NEVER, ANSWERED], ids=["cut", "never made", "by a message"])
def test_a_result_that_no_call_brought_has_no_try_and_no_time(body: CallFinished) -> None:
    found = shown(body)
    assert (found.attempt, found.duration_ms) == (None, None)


def test_a_result_that_a_call_brought_has_both() -> None:
    found = shown(result(CallStatus.SUCCESS, attempt=2, took=8000))
    assert (found.attempt, found.duration_ms) == (2, 8000)


def test_a_figure_that_a_call_lacks_is_a_dash() -> None:
    rows = [row(CUT), row(STARTED)]
    cells = history_table([happening(r, epoch=1) for r in rows], rows).columns
    shown_figures = {
        str(c.header): [str(x) for x in c.cells] for c in cells if c.header in ("TRY", "TOOK")
    }
    assert shown_figures == {"TRY": ["-", ""], "TOOK": ["-", ""]}
