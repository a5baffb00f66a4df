"""Each violation, planted once into the evidence of a clean run, is found, and nothing else is."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from chaos.checker import Finding, check, resent, sent_at_thaws, told_again
from chaos.evidence import Effect, Evidence, Input, Letter, Prompt, Send, StepRow, TaskRow, Update
from chaos.fleet import Freeze
from chaos.kinds import Message
from chaos.load import Sent

TASK, BAD, ONCE = "turns-0000001", "bad-0000002", "once-0000003"
KEY, ONCE_KEY = f"{TASK}/2/1", f"{ONCE}/2/1"


def sent(task_id: str, *, offset: int, event_id: str | None = None) -> Sent:
    kind = task_id.partition("-")[0]
    message = Message(topic="tasks", kind=kind, task_id=task_id, value=b"{", event_id=event_id)
    return Sent(message=message, topic="tasks", partition=0, offset=offset)


def lying(task_id: str, *, offset: int, is_bad: bool = False) -> Input:
    return Input(
        topic="tasks",
        partition=0,
        offset=offset,
        key=task_id.encode(),
        value=b"{",
        is_bad=is_bad,
    )


def steps_of(task_id: str) -> tuple[StepRow, ...]:
    result = StepRow(task_id=task_id, seq=3, kind="result", epoch=2, at=3.0)
    return (
        StepRow(task_id=task_id, seq=1, kind="accepted", epoch=1, at=1.0),
        StepRow(task_id=task_id, seq=2, kind="decision", epoch=1, at=2.0),
        replace(result, step=2, call=1, status="success"),
        StepRow(task_id=task_id, seq=4, kind="completed", epoch=2, at=4.0),
    )


def request(key: str, agent: str, *, epoch: int = 1, payload: str = "p", at: float = 2.5) -> Send:
    task_id = key.partition("/")[0]
    return Send(key=key, task_id=task_id, agent=agent, epoch=epoch, payload=payload, at=at)


def effect(key: str, agent: str) -> Effect:
    return Effect(key=key, task_id=key.partition("/")[0], agent=agent)


def told(task_id: str, seq: int) -> Update:
    return Update(id=f"{task_id}/{seq}", task_id=task_id, seq=seq)


FREEZE = Freeze(frozen_at=1.95, thawed_at=5.0)
"""Of a worker whose task another one decided meanwhile, called for, and ended."""


def late_prompt(*, at: float) -> Prompt:
    return Prompt(task_id=TASK, turn=0, at=at)


LETTER = Letter(id="l", place="tasks/0/1", key=BAD.encode(), value=b"{", reason="invalid_json")

CLEAN = Evidence(
    book=(
        sent(TASK, offset=0),
        sent(BAD, offset=1),
        sent(ONCE, offset=2),
        sent(TASK, offset=3, event_id="note"),
    ),
    inputs=(
        lying(TASK, offset=0),
        lying(BAD, offset=1, is_bad=True),
        lying(ONCE, offset=2),
        lying(TASK, offset=3),
    ),
    # The relay died once after it had published: the same letter and update again.
    updates=(
        *(told(TASK, seq) for seq in (1, 2, 3, 4)),
        *(told(ONCE, seq) for seq in (1, 2, 1, 2, 3, 4)),
    ),
    letters=(LETTER, LETTER),
    tasks=tuple(TaskRow(task_id=t, status="completed", seq=4) for t in (TASK, ONCE)),
    steps=(*steps_of(TASK), *steps_of(ONCE)),
    events=frozenset({(TASK, "note")}),
    positions={"tasks/0": 4},
    ends={"tasks/0": 4},
    prompts=(Prompt(task_id=TASK, turn=0, at=1.5), Prompt(task_id=TASK, turn=0, at=1.9)),
    sends=(
        request(KEY, "crm"),
        request(KEY, "crm", epoch=2, at=2.8),
        request(ONCE_KEY, "payments"),
    ),
    effects=(effect(KEY, "crm"), effect(ONCE_KEY, "payments")),
)

Plant = Callable[[Evidence], Evidence]

PLANTED: dict[str, tuple[str, Plant]] = {
    "an acknowledged message that Kafka lacks": (
        "I1",
        lambda e: replace(e, book=(*e.book, sent(TASK, offset=9))),
    ),
    "an acknowledged task without a row": (
        "I1",
        lambda e: replace(
            e,
            book=(*e.book, sent("turns-0000009", offset=4)),
            inputs=(*e.inputs, lying("turns-0000009", offset=4)),
        ),
    ),
    "an acknowledged event without a row": ("I1", lambda e: replace(e, events=frozenset())),
    "a position before the end of its topic": (
        "I1",
        lambda e: replace(e, positions={"tasks/0": 3}),
    ),
    "a gap in a journal": (
        "I2",
        lambda e: replace(e, steps=tuple(s for s in e.steps if (s.task_id, s.seq) != (TASK, 2))),
    ),
    "an epoch that falls": (
        "I2",
        lambda e: replace(e, steps=(replace(e.steps[0], epoch=3), *e.steps[1:])),
    ),
    "an older owner heard of after a newer one": (
        "I2",
        lambda e: replace(e, sends=(*e.sends, request(KEY, "crm", epoch=1, at=2.9))),
    ),
    "two effects under one key": (
        "I3",
        lambda e: replace(e, effects=(*e.effects, effect(KEY, "crm"))),
    ),
    "a call made twice under two keys": (
        "I3",
        lambda e: replace(e, effects=(*e.effects, effect(f"{TASK}/3/1", "crm"))),
    ),
    "a result without its effect": ("I3", lambda e: replace(e, effects=e.effects[1:])),
    "two requests under one key": (
        "I3",
        lambda e: replace(e, sends=(*e.sends, request(KEY, "crm", epoch=2, payload="q"))),
    ),
    "an at_most_once call sent twice": (
        "I3",
        lambda e: replace(e, sends=(*e.sends, request(ONCE_KEY, "payments"))),
    ),
    "a journaled decision asked for again": (
        "I4",
        lambda e: replace(e, prompts=(*e.prompts, Prompt(task_id=TASK, turn=0, at=2.1))),
    ),
    "a journaled call made again": (
        "I4",
        lambda e: replace(e, sends=(*e.sends, request(KEY, "crm", epoch=2, at=3.1))),
    ),
    "a second late request of one thaw": (
        "I4",
        lambda e: replace(
            e,
            freezes=(FREEZE,),
            prompts=(*e.prompts, late_prompt(at=5.01), late_prompt(at=5.02)),
        ),
    ),
    "a request long after the thaw": (
        "I4",
        lambda e: replace(e, freezes=(FREEZE,), prompts=(*e.prompts, late_prompt(at=5.2))),
    ),
    "a request before the thaw": (
        "I4",
        lambda e: replace(e, freezes=(FREEZE,), prompts=(*e.prompts, late_prompt(at=4.9))),
    ),
    "a request at a thaw, for what was known before the freeze": (
        "I4",
        lambda e: replace(
            e,
            freezes=(replace(FREEZE, frozen_at=2.2),),
            prompts=(*e.prompts, late_prompt(at=5.01)),
        ),
    ),
    "updates out of order": (
        "I5",
        lambda e: replace(e, updates=(e.updates[1], e.updates[0], *e.updates[2:])),
    ),
    "a step that was never told": ("I5", lambda e: replace(e, updates=e.updates[1:])),
    "a row that the relay left": ("I5", lambda e: replace(e, outbox=1)),
    "a task that is stuck": (
        "I6",
        lambda e: replace(e, tasks=(replace(e.tasks[0], status="running", owner=7), e.tasks[1])),
    ),
    "a task that failed": (
        "I6",
        lambda e: replace(e, tasks=(replace(e.tasks[0], status="failed"), e.tasks[1])),
    ),
    "a bad input without a dead letter": ("I8", lambda e: replace(e, letters=())),
    "two dead letters of one bad input": (
        "I8",
        lambda e: replace(e, letters=(*e.letters, replace(LETTER, id="m"))),
    ),
    "a dead letter with another byte": (
        "I8",
        lambda e: replace(e, letters=(replace(LETTER, value=b"}"), LETTER)),
    ),
    "a dead letter of a good input": (
        "I8",
        lambda e: replace(e, letters=(*e.letters, replace(LETTER, place="tasks/0/0"))),
    ),
}


def test_a_clean_run_shows_nothing() -> None:
    assert check(CLEAN) == []


@pytest.mark.parametrize("what", PLANTED)
def test_a_planted_violation_is_found(what: str) -> None:
    invariant, plant = PLANTED[what]

    found = check(plant(CLEAN))

    assert {f.invariant for f in found} == {invariant}, [str(f) for f in found]


def test_a_finding_names_the_task_and_the_rows() -> None:
    _, plant = PLANTED["a gap in a journal"]

    (found,) = check(plant(CLEAN))

    text = "tasks.seq is 4, steps are [1, 3, 4]"
    assert found == Finding(invariant="I2", task_id=TASK, text=text)


def test_a_call_sent_again_is_counted_and_a_retry_is_not() -> None:
    failed = replace(CLEAN.steps[2], kind="attempt_failed", status=None)

    assert resent(CLEAN) == 1
    assert resent(replace(CLEAN, steps=(*CLEAN.steps, failed))) == 0


@pytest.mark.parametrize(
    "late",
    [
        {"prompts": (*CLEAN.prompts, late_prompt(at=5.01))},
        {"sends": (*CLEAN.sends, request(KEY, "crm", epoch=1, at=5.01))},
    ],
    ids=["prompt", "call"],
)
def test_a_request_that_was_stopped_on_its_way_out_is_counted(late: dict[str, Any]) -> None:
    evidence = replace(CLEAN, freezes=(FREEZE,), **late)

    assert check(evidence) == []
    assert sent_at_thaws(evidence) == 1
    assert sent_at_thaws(CLEAN) == 0


def test_updates_that_come_twice_are_counted() -> None:
    assert told_again(CLEAN) == 2
    assert told_again(replace(CLEAN, updates=())) == 0
