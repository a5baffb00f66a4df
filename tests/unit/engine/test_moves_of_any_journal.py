"""Whatever journal the moves themselves lead to, there is a move, and it is always the same one."""

from dataclasses import replace
from datetime import datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.domain.call import Call, CallStatus
from orchestrator.domain.decision import Complete, Decision, Delegate, Fail, Wait
from orchestrator.domain.event import DATA, PAUSE, RESUME
from orchestrator.domain.ids import AgentId, Seq
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.step import (
    AttemptFailed,
    CallFinished,
    Decided,
    EventApplied,
    Step,
    StepBody,
)
from orchestrator.engine.moves import (
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
from tests.unit.engine.journals import BEGAN, snapshot

LIMITS = TaskLimits(max_steps=30)


def add(task: Snapshot, body: StepBody, *, now: datetime) -> Snapshot:
    return task.after([Step(seq=Seq(task.seq + 1), body=body, at=now)])


def decision(draw: st.DrawFn, now: datetime) -> Decision:
    agents = st.lists(st.sampled_from(["crm", "mail"]), max_size=3)
    calls = tuple(Call(number=n, agent=AgentId(a)) for n, a in enumerate(draw(agents), 1))
    until = draw(st.sampled_from([None, now + timedelta(seconds=30)]))
    wait = Wait(waiting_for="an answer", until=until)
    return wait if draw(st.integers(0, 2)) == 0 else Delegate(calls=calls)


def answers(draw: st.DrawFn, move: Move, now: datetime) -> list[StepBody]:
    """What a runner may journal of a move."""
    later = now + timedelta(seconds=draw(st.integers(0, 60)))
    match move:
        case Ask(attempt=attempt):
            if draw(st.integers(0, 4)) == 0:
                return [AttemptFailed(attempt=attempt, error="429", retry_at=later)]
            return [Decided(decision=decision(draw, now))]
        case MakeCalls(calls=due):
            statuses = st.sampled_from([CallStatus.SUCCESS, CallStatus.ERROR, CallStatus.ACCEPTED])
            return [
                CallFinished(
                    step=d.step,
                    call=d.call.number,
                    agent=d.call.agent,
                    status=draw(statuses),
                    until=later,
                )
                for d in due
            ]
        case GiveUp(calls=late):
            return [
                CallFinished(step=s, call=c.number, agent=c.agent, status=CallStatus.ERROR)
                for s, c in late
            ]
        case TimeOut():
            return [EventApplied(event_type="timeout")]
        case _:
            return []


@st.composite
def walks(draw: st.DrawFn) -> list[tuple[Snapshot, datetime]]:
    """A task's way: what it was before each of its moves, until it ends."""
    task, now = snapshot(required=()), BEGAN + timedelta(minutes=1)
    walk = [(task, now)]
    for _ in range(draw(st.integers(1, 15))):
        move = next_move(task, now=now, limits=LIMITS)
        if isinstance(move, Finish):
            break
        for body in answers(draw, move, now):
            task = add(task, body, now=now)
        if isinstance(move, Sleep):
            event = draw(st.sampled_from([None, DATA, PAUSE, RESUME]))
            if event is not None:
                task = add(task, EventApplied(event_type=event), now=now)
        now += timedelta(seconds=draw(st.integers(0, 60)))
        walk.append((task, now))
    return walk


@settings(max_examples=40)
@given(walks(), st.data())
def test_a_journal_read_again_in_two_parts_gives_the_same_move(
    walk: list[tuple[Snapshot, datetime]], data: st.DataObject
) -> None:
    task, now = data.draw(st.sampled_from(walk))
    cut = data.draw(st.integers(0, len(task.steps)))
    empty = replace(task, context=snapshot(required=()).context, steps=())
    again = empty.after(task.steps[:cut]).after(task.steps[cut:])
    expected = next_move(task, now=now, limits=LIMITS)
    assert next_move(again, now=now, limits=LIMITS) == expected


@settings(max_examples=40)
@given(walks())
def test_a_task_sleeps_or_goes_on_and_ends_within_its_limits(
    walk: list[tuple[Snapshot, datetime]],
) -> None:
    for task, now in walk:
        move = next_move(task, now=now, limits=LIMITS)
        if isinstance(move, Sleep):
            assert move.until is not None, "it would sleep for ever"
            assert move.until > now, "it would be looked at again and again"
    task, _ = walk[-1]
    assert len(task.steps) <= LIMITS.max_steps + 3 + 1


@settings(max_examples=20)
@given(walks(), st.sampled_from([Complete(), Fail(reason="no")]))
def test_no_task_outlives_its_age(
    walk: list[tuple[Snapshot, datetime]], said: Complete | Fail
) -> None:
    task, now = walk[-1]
    after = now + 3 * LIMITS.max_age
    move = next_move(add(task, Decided(decision=said), now=now), now=after, limits=LIMITS)
    assert not isinstance(move, Ask | MakeCalls | TimeOut)
