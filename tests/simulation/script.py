"""What each simulated task is to do, drawn from its seed: turns, calls, waits, and how it ends."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random

from orchestrator.domain.agent import Agent, Limits
from orchestrator.domain.call import Call
from orchestrator.domain.context import Context
from orchestrator.domain.decision import Complete, Decision, Delegate, Fail, Turn, Usage, Wait
from orchestrator.domain.event import DATA
from orchestrator.domain.ids import AgentId, TaskId
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.step import Decided, EventApplied
from orchestrator.store.ingest import NewEvent, NewTask, Origin
from tests.fakes.scripted_caller import agent

TIMEOUT = Limits(timeout_seconds=5.0)
AGENTS: tuple[Agent, ...] = (
    agent("crm", "customer", limits=TIMEOUT),
    agent("billing", "invoice", limits=TIMEOUT),
    agent("search", "found", limits=TIMEOUT, cancel_url="http://search.invalid/cancel"),
    agent("mail", "sent", limits=TIMEOUT, effects="at_most_once", status_url="http://mail.invalid"),
    agent("transfer", "paid", limits=TIMEOUT, effects="at_most_once"),
)
A_TIME, AN_EVENT = "a time", "an event"
TENANTS = ("default", "a", "b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """On its way to a partition."""

    at: float
    """Seconds after the beginning."""
    partition: int
    body: NewTask | NewEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """One task's."""

    task_id: TaskId
    turns: tuple[Decision, ...]
    messages: tuple[Message, ...]

    def turn(self, snapshot: Snapshot, *, now: datetime) -> Turn:
        """What the model says to this journal."""
        number = decisions(snapshot)
        said = self.turns[number] if number < len(self.turns) else Complete()
        if isinstance(said, Wait) and said.waiting_for == A_TIME:
            said = Wait(waiting_for=A_TIME, until=now + timedelta(seconds=5 + 3 * number))
        elif isinstance(said, Wait) and _has_come(snapshot, number):
            said = Delegate()
        return Turn(decision=said, usage=Usage(input_tokens=10, output_tokens=1), model="simulated")

    def awaited(self, snapshot: Snapshot) -> NewEvent | None:
        """The event without which the task would wait for ever, where it waits for one next."""
        number = decisions(snapshot)
        said = self.turns[number] if number < len(self.turns) else None
        if not isinstance(said, Wait) or said.waiting_for != AN_EVENT:
            return None
        return NewEvent(
            origin=_origin(0),
            task_id=self.task_id,
            event_type=DATA,
            event_id=f"awaited {number}",
            payload={"awaited": number},
        )


def decisions(snapshot: Snapshot) -> int:
    return sum(isinstance(s.body, Decided) for s in snapshot.steps)


def _has_come(snapshot: Snapshot, number: int) -> bool:
    return any(
        isinstance(s.body, EventApplied) and s.body.payload.get("awaited") == number
        for s in snapshot.steps
    )


def new_script(seed: int, number: int, *, partitions: int, spread: float) -> Script:
    """The task of this number; its messages begin within `spread` seconds."""
    random = Random(seed * 1_000_003 + number)
    task_id = TaskId(f"t{number}")
    turns = [_decision(random) for _ in range(random.randint(0, 4))]
    turns.append(Fail(reason="as written") if random.random() < 0.05 else Complete())
    at, partition = random.uniform(0, spread), number % partitions
    begin = Message(at=at, partition=partition, body=_task(random, task_id))
    extra = [
        _event(random, task_id, at, partition, n) for n in range(random.choice((0, 0, 0, 1, 2)))
    ]
    messages = [begin, *extra]
    if random.random() < 0.05:  # a producer that sends twice
        messages.append(
            Message(at=at + random.uniform(0, 30), partition=partition, body=begin.body)
        )
    return Script(task_id=task_id, turns=tuple(turns), messages=tuple(messages))


def _decision(random: Random) -> Decision:
    if random.random() < 0.12:
        return Wait(waiting_for=random.choice((A_TIME, AN_EVENT)))
    count = random.choice((0, 1, 1, 1, 2, 3))
    calls = tuple(Call(number=n, agent=_agent(random), input={"n": n}) for n in range(1, count + 1))
    return Delegate(calls=calls)


def _agent(random: Random) -> AgentId:
    return random.choice(AGENTS[:3] * 3 + AGENTS[3:]).id


def _origin(partition: int) -> Origin:
    return Origin(topic="tasks", partition=partition, offset=0)


def _task(random: Random, task_id: TaskId) -> NewTask:
    required = ("customer",) if random.random() < 0.1 else ()
    return NewTask(
        origin=_origin(0),
        task_id=task_id,
        description=f"the task {task_id}",
        context=Context(required_fields=required).to_json(),
        tenant=random.choice(TENANTS),
        priority=random.choice((0, 1, 1, 2)),
    )


def _event(random: Random, task_id: TaskId, at: float, partition: int, number: int) -> Message:
    kind = random.choice(("data", "data", "data", "cancel", "pause"))
    event = NewEvent(
        origin=_origin(0),
        task_id=task_id,
        event_type=kind,
        payload={"number": number},
        event_id=f"e{number}" if random.random() < 0.5 else None,
    )
    # Some come before their task.
    return Message(at=max(0.0, at + random.uniform(-3, 15)), partition=partition, body=event)
