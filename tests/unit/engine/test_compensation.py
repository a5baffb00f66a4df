from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from orchestrator.domain.agent import Agent
from orchestrator.domain.call import Call, CallStatus
from orchestrator.domain.compensation import Compensation, filled
from orchestrator.domain.decision import Delegate
from orchestrator.domain.event import InboxMessage
from orchestrator.domain.ids import AgentId, Seq
from orchestrator.domain.json import JsonObject
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.step import (
    CallFinished,
    Cancelled,
    Compensating,
    Decided,
    Failed,
    Forked,
    Step,
    StepBody,
)
from orchestrator.engine.compensation import begun
from orchestrator.engine.facts import as_declared
from orchestrator.engine.fold import fold
from orchestrator.engine.moves import Finish, GiveUp, MakeCalls, Move, Sleep, ends_at, next_move
from orchestrator.engine.options import TaskLimits
from tests.unit.engine.journals import (
    BEFORE,
    BEGAN,
    LATER,
    NOW,
    accepted,
    attempt,
    decided,
    delegated,
    event,
    finished,
    snapshot,
    started,
)

LIMITS = TaskLimits(max_steps=10, max_age=timedelta(hours=1))
UNDO = Compensation(
    agent=AgentId("undo"), input={"id": "$output.id", "name": "$input.name", "why": "$$"}
)
FAILED = Failed(reason="no", code="planner")


def effects(*agents: str) -> Decided:
    calls = (
        Call(number=n, agent=AgentId(a), input={"name": a}, compensation=UNDO)
        for n, a in enumerate(agents, 1)
    )
    return decided(Delegate(calls=tuple(calls)))


def done(number: int = 1, *, step: int = 2, **output: Any) -> CallFinished:
    return finished(number, step=step, output=output)


def unknown(number: int = 1) -> CallFinished:
    return finished(number, CallStatus.UNKNOWN)


def ending(*bodies: StepBody, **task: Any) -> Snapshot:
    """The task after these steps, and the one with which its undoing began."""
    state = snapshot(*bodies, **task)
    undo = begun(state, FAILED)
    assert undo is not None
    return after(state, undo)


def after(state: Snapshot, *bodies: StepBody) -> Snapshot:
    steps: Sequence[Step] = [
        Step(seq=Seq(state.seq + n), body=body, at=BEGAN + timedelta(seconds=state.seq + n))
        for n, body in enumerate(bodies, 1)
    ]
    return state.after(steps)


def move(state: Snapshot) -> Move:
    return next_move(state, now=NOW, limits=LIMITS)


def calls(answer: Move) -> list[Call]:
    assert isinstance(answer, MakeCalls), answer
    return [d.call for d in answer.calls]


def notes(answer: Move) -> list[tuple[int, bool, str]]:
    """Call, whether it was undone, and why not, of the end."""
    assert isinstance(answer, Finish), answer
    assert isinstance(answer.outcome, Failed | Cancelled)
    return [(c.call, c.is_undone, c.note) for c in answer.outcome.compensated]


@pytest.mark.parametrize(
    ("bodies", "undone"),
    [
        ([effects("a", "b"), done(1), done(2)], [2, 1]),
        ([effects("a", "b"), done(2), done(1)], [1, 2]),
        ([effects("a", "b"), done(1), finished(2, CallStatus.ERROR)], [1]),
        ([effects("a", "b"), unknown(1), finished(2, CallStatus.INPUT_REQUIRED)], [1]),
        ([effects("a"), finished(1, CallStatus.ERROR, is_unsure=True)], [1]),
        ([effects("a"), unknown(1), done(1)], [1]),
    ],
    ids=["both", "in the order of their effects", "an error", "unknown", "unsure", "known later"],
)
def test_what_had_or_may_have_had_an_effect_is_undone_the_last_one_first(
    bodies: list[StepBody], undone: list[int]
) -> None:
    undo = begun(snapshot(*bodies), FAILED)
    assert undo is not None
    assert [(u.number, u.call) for u in undo.undo] == list(enumerate(undone, 1))


@pytest.mark.parametrize(
    "bodies",
    [
        [],
        [delegated("crm"), finished()],
        [effects("a"), finished(1, CallStatus.ERROR)],
        [effects("a")],
        [effects("a"), done(), Compensating(status="failed")],
    ],
    ids=["nothing", "no compensation", "no effect", "never made", "begun already"],
)
def test_a_task_without_such_effects_ends_at_once(bodies: list[StepBody]) -> None:
    assert begun(snapshot(*bodies), FAILED) is None


def test_a_fork_undoes_only_what_it_did_itself() -> None:
    shared = (effects("a"), done(), Forked(task="other", step=Seq(3)))
    assert begun(snapshot(*shared), FAILED) is None
    undo = begun(snapshot(*shared, effects("b"), done(step=5)), FAILED)
    assert undo is not None
    assert [u.step for u in undo.undo] == [5]


def test_effects_are_undone_one_after_the_other_with_what_is_known_of_them() -> None:
    state = ending(effects("a", "b"), done(1, id=1), unknown(2))
    (call,) = calls(move(state))
    assert (call.number, call.agent, call.compensates) == (1, "undo", "order/2/2")
    assert call.input == {"name": "b", "why": "$"}
    (second,) = calls(move(after(state, done(step=5))))
    assert (second.number, second.compensates) == (2, "order/2/1")
    assert second.input == {"id": 1, "name": "a", "why": "$"}
    end = move(after(state, done(step=5), done(2, step=5)))
    assert notes(end) == [(2, True, ""), (1, True, "")]


def test_the_end_says_what_was_not_undone_and_goes_on_with_the_others() -> None:
    state = ending(effects("a", "b"), done(1), done(2))
    state = after(state, finished(1, CallStatus.ERROR, step=5, error="gone"))
    assert calls(move(state))[0].number == 2
    end = move(after(state, done(2, step=5)))
    assert notes(end) == [(2, False, "gone"), (1, True, "")]
    assert isinstance(end, Finish)
    assert isinstance(end.outcome, Failed)
    assert (end.outcome.reason, end.outcome.code) == ("no", "planner")


def test_a_cancelled_task_ends_as_cancelled() -> None:
    state = snapshot(effects("a"), done())
    undo = begun(state, Cancelled(reason="r", by="ops", unknown=("k",)))
    assert undo is not None
    end = move(after(state, undo, done(step=4)))
    assert isinstance(end, Finish)
    assert isinstance(end.outcome, Cancelled)
    assert (end.outcome.by, end.outcome.unknown) == ("ops", ("k",))


@pytest.mark.parametrize(
    "more",
    [[event("cancel")], [event("pause")], [event()] * 20],
    ids=["cancel", "pause", "limits"],
)
def test_nothing_stops_it(more: list[StepBody]) -> None:
    state = after(ending(effects("a"), done(), deadline=BEFORE), *more)
    assert calls(move(state))[0].agent == "undo"
    assert ends_at(state, LIMITS) > NOW


def test_it_is_tried_again_and_given_up_like_any_call() -> None:
    state = ending(effects("a"), done())
    later = after(state, attempt(1, at=LATER, step=4, agent="undo"))
    assert move(later) == Sleep(
        waiting_for="compensating: another try of undo", until=LATER, is_undoing=True
    )
    late = move(after(state, accepted(1, step=4, until=BEFORE)))
    assert isinstance(late, GiveUp)
    begun_once = move(after(state, started(1, step=4)))
    assert isinstance(begun_once, MakeCalls)
    assert begun_once.calls[0].was_started


def test_it_has_an_end_also_where_nobody_answers() -> None:
    state = after(ending(effects("a"), done()), accepted(1, step=4))
    rest = move(state)
    assert isinstance(rest, Sleep)
    assert rest.until is not None
    end = next_move(state, now=rest.until, limits=LIMITS)
    assert notes(end) == [(1, False, "it was not done in time")]


def message(step: int, status: str = "success", **output: Any) -> InboxMessage:
    payload: JsonObject = {"status": status, "output": output}
    return InboxMessage(id=1, event_type="agent_result", payload=payload, step=step, call=1)


def folded(state: Snapshot, *messages: InboxMessage) -> Snapshot:
    return state.after(fold(state, messages, agents={}))


def test_a_late_result_of_an_unknown_call_is_recorded_and_undone() -> None:
    state = folded(ending(effects("a"), unknown()), message(2, id=7))
    assert calls(move(state))[0].input["id"] == 7


def test_a_late_word_that_nothing_was_done_leaves_nothing_to_undo() -> None:
    state = folded(ending(effects("a"), unknown()), message(2, "error"))
    assert notes(move(state)) == [(1, True, "it had no effect")]


def test_a_late_answer_of_who_undoes_it_ends_it_and_collects_nothing() -> None:
    state = ending(effects("a"), done())
    state = folded(after(state, accepted(1, step=4)), message(4, id=9))
    assert notes(move(state)) == [(1, True, "")]
    assert state.context.collected_data == {}


def test_events_during_it_change_neither_its_state_nor_its_messages() -> None:
    cancel = InboxMessage(id=1, event_type="cancel")
    pause = InboxMessage(id=2, event_type="pause")
    steps = fold(ending(effects("a"), done()), [cancel, pause], agents={})
    assert [step.change for step in steps] == [None, None]


def test_what_was_declared_when_the_call_was_decided_counts() -> None:
    agent = Agent(
        id=AgentId("a"),
        name="A",
        description="d",
        endpoint="http://a",
        compensation=UNDO,
        effects="at_most_once",
    )
    decision = Delegate(calls=(Call(number=1, agent=AgentId("a")),))
    told = as_declared(decision, {AgentId("a"): agent})
    assert isinstance(told, Delegate)
    assert told.calls[0].compensation == UNDO
    assert told.calls[0].effects == "at_most_once"


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ({"a": "$output.id", "b": ["$input.x.y", 1]}, {"a": 5, "b": [[2], 1]}),
        ({"whole": "$output", "text": "costs $5"}, {"whole": {"id": 5}, "text": "costs $5"}),
        ({"gone": "$output.no", "list": ["$input.x.no"]}, {"list": []}),
        ({"dollar": "$$output.id"}, {"dollar": "$output.id"}),
        ({}, {}),
    ],
)
def test_an_input_quotes_values_exactly(template: Any, expected: Any) -> None:
    assert filled(template, values={"input": {"x": {"y": [2]}}, "output": {"id": 5}}) == expected
