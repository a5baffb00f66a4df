"""What is published, kind by kind, and what the model says to it (pure).

A task's id begins with its kind, so that the stubs, which see ids alone, know their lines: the
model's answer is a function of the kind, the turn and whether the event has come.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from chaos.malformed import MALFORMED

Json = dict[str, Any]
Topic = Literal["tasks", "events"]
Calls = tuple[tuple[str, Json], ...]

GRANTED = "granted-by-the-event"
"""Stands in an event, and so in the prompts after it."""

CUSTOMER = ("agent_crm", {"name": "ACME"})
ACCOUNT = ("agent_accounts", {"customer_id": "C-1"})
PAYMENT = ("agent_payments", {"name": "ACME"})
ANSWER = ("agent_flaky", {"name": "ACME"})
WAIT = ("wait_for_event", {"reason": "the approval"})

BAD = "bad"
POISON = "poison"
"""Tasks whose prompts are never answered: what asks for them is killed."""

WEIGHTS: Mapping[str, int] = {
    "turns": 33,
    "sides": 15,
    "waits": 12,
    "early": 8,
    "doubles": 10,
    "once": 4,
    "cancels": 8,
    "flaky": 4,
    BAD: 6,
}

CALLS: Mapping[str, tuple[Calls, ...]] = {
    "turns": ((CUSTOMER,), (ACCOUNT,)),
    "sides": ((CUSTOMER, ACCOUNT),),
    "waits": ((CUSTOMER,),),
    "early": ((CUSTOMER,),),
    "doubles": ((CUSTOMER,), (ACCOUNT,)),
    "once": ((PAYMENT,),),
    "cancels": ((CUSTOMER,), (ACCOUNT,)),
    "flaky": ((ANSWER,),),
}
"""What a task's decisions call, one after the other."""

WAITING = ("waits", "early")
MAY_BE_CANCELLED = ("cancels",)

FIELDS: Mapping[str, tuple[str, ...]] = {
    "agent_crm": ("customer_id",),
    "agent_accounts": ("account_number",),
    "agent_payments": ("receipt",),
    "agent_flaky": ("answer",),
}
"""What each agent adds."""

# Their values may differ from run to run, their bytes are what counts: a megabyte each is too much.
BAD_INPUTS = tuple(m for m in MALFORMED if len(m.value or b"") < 10_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One thing to publish."""

    topic: Topic
    kind: str
    task_id: str
    value: bytes | None
    after_seconds: float = 0.0
    headers: tuple[tuple[str, bytes | None], ...] = ()
    event_id: str | None = None
    has_key: bool = True

    @property
    def key(self) -> bytes | None:
        return self.task_id.encode() if self.has_key else None

    @property
    def is_bad(self) -> bool:
        return self.kind == BAD


def kind_of(task_id: str) -> str:
    return task_id.partition("-")[0]


def required(kind: str) -> list[str]:
    return [field for turn in CALLS[kind] for tool, _ in turn for field in FIELDS[tool]]


def next_calls(task_id: str, *, made: int, has_event: bool) -> Calls:
    """The model's answer, after `made` decisions that called agents."""
    kind = kind_of(task_id)
    if kind in WAITING and not has_event:
        return (WAIT,)
    turns = CALLS[kind]
    return turns[min(made, len(turns) - 1)]


def draw(number: int, dice: random.Random) -> list[Message]:
    """The messages of one more task, or one that can't be used."""
    (kind,) = dice.choices(list(WEIGHTS), list(WEIGHTS.values()))
    if kind == BAD:
        return [_bad(number, dice)]
    task_id = f"{kind}-{number:07d}"
    return messages_of(kind, task_id, dice)


def messages_of(kind: str, task_id: str, dice: random.Random) -> list[Message]:
    """The task's own message, and what belongs to it."""
    task = task_message(kind, task_id)
    match kind:
        case "waits":
            return [task, _approval(task_id, after_seconds=dice.uniform(0.3, 3.0))]
        case "early":
            return [_approval(task_id), _later(task, dice.uniform(0.05, 1.0))]
        case "doubles":
            copies = [_later(task, dice.uniform(0.0, 3.0)) for _ in range(dice.randint(1, 4))]
            note = event_message(task_id, {"event_data": {"note": "twice"}}, event_id="note")
            return [task, *copies, note, _later(note, dice.uniform(0.0, 3.0))]
        case "cancels":
            cancel = {"event_type": "cancel", "event_data": {"reason": "no longer wanted"}}
            after = dice.uniform(0.0, 0.4)
            return [task, event_message(task_id, cancel, event_id="cancel", after_seconds=after)]
        case _:
            return [task]


def task_message(kind: str, task_id: str) -> Message:
    value = {
        "task_id": task_id,
        "task_description": f"[{task_id}] Do the work of kind {kind}",
        "required_fields": required(kind) if kind in CALLS else ["never"],
    }
    return Message(topic="tasks", kind=kind, task_id=task_id, value=orjson.dumps(value))


def event_message(
    task_id: str, fields: Json, *, event_id: str | None = None, after_seconds: float = 0.0
) -> Message:
    named = {"event_id": event_id} if event_id else {}
    return Message(
        topic="events",
        kind=kind_of(task_id),
        task_id=task_id,
        value=orjson.dumps({"task_id": task_id, **named, **fields}),
        after_seconds=after_seconds,
        event_id=event_id,
    )


def _approval(task_id: str, *, after_seconds: float = 0.0) -> Message:
    fields = {"event_data": {"approval": GRANTED}}
    return event_message(task_id, fields, event_id="approval", after_seconds=after_seconds)


def _bad(number: int, dice: random.Random) -> Message:
    chosen = dice.choice(BAD_INPUTS)
    topic: Topic = "tasks" if chosen.topic == "tasks" else "events"
    return Message(
        topic=topic,
        kind=BAD,
        task_id=f"{BAD}-{number:07d}",
        value=chosen.value,
        headers=tuple(chosen.headers),
    )


def _later(message: Message, seconds: float) -> Message:
    return Message(
        topic=message.topic,
        kind=message.kind,
        task_id=message.task_id,
        value=message.value,
        after_seconds=seconds,
        headers=message.headers,
        event_id=message.event_id,
        has_key=message.has_key,
    )


def tool_calls(conversation: Sequence[Json]) -> int:
    """How many of a conversation's answers called agents."""
    answers = [m for m in conversation if m["role"] == "assistant"]
    return sum(_called_agents(answer) for answer in answers)


def _called_agents(answer: Json) -> bool:
    calls = answer.get("tool_calls") or ()
    return any(call["function"]["name"].startswith("agent_") for call in calls)
