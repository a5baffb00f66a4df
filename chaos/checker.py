"""Looks for violations of I1 to I8 in the evidence of a run (pure). Each finding names the task.

I1 no acknowledged input lost · I2 steps gapless, epochs never fall · I3 one effect a key, one call
of an agent a task · I4 nothing journaled is asked for or made again · I5 updates in the order of
the steps · I6 every task ended as it should · I8 dead letters exactly the bad inputs, byte for
byte.
(I7, leaks, is the soak's.)
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from chaos.evidence import Evidence, Send, StepRow, Update
from chaos.fleet import Freeze
from chaos.kinds import MAY_BE_CANCELLED, POISON, kind_of

FORGETFUL = "payments"
"""The agent that must not be called twice."""
BY_HAND = "once"
"""The kind of the tasks that call it: a person may have ended their calls."""
THAW_SECONDS = 0.1
"""In which a request arrives whose worker was stopped between its last look and the send."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    invariant: str
    task_id: str
    text: str

    def __str__(self) -> str:
        return f"{self.invariant} {self.task_id}: {self.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Late:
    """A request that arrived after what made it needless was known."""

    finding: Finding
    known_at: float
    arrived_at: float


def check(evidence: Evidence) -> list[Finding]:
    """Everything that is wrong."""
    return [
        *_inputs_lost(evidence),
        *_journals(evidence),
        *_effects(evidence),
        *_requests(evidence),
        *_too_late(evidence),
        *_updates(evidence),
        *_unfinished(evidence),
        *_dead_letters(evidence),
    ]


def resent(evidence: Evidence) -> int:
    """Calls that were made again because nobody knew what became of them."""
    failed = Counter(s.key for s in evidence.steps if s.kind == "attempt_failed")
    sends = Counter(send.key for send in evidence.sends)
    return sum(max(0, count - 1 - failed[key]) for key, count in sends.items())


def told_again(evidence: Evidence) -> int:
    """Updates that Kafka has more than once, under one id."""
    return len(evidence.updates) - len({update.id for update in evidence.updates})


def sent_at_thaws(evidence: Evidence) -> int:
    """Late requests that were stopped on their way out, with their worker."""
    late = {request.arrived_at for request in _late(evidence)}
    found = {request.arrived_at for request in _not_thawed(evidence)}
    return len(late - found)


def _inputs_lost(e: Evidence) -> Iterator[Finding]:
    known = {task.task_id for task in e.tasks}
    there = {i.place for i in e.inputs}
    for sent in e.book:
        message, place = sent.message, f"{sent.topic}/{sent.partition}/{sent.offset}"
        if place not in there:
            yield _found("I1", message.task_id, f"acknowledged, and Kafka lacks it: {place}")
        if message.is_bad:
            continue
        if message.task_id not in known:
            yield _found("I1", message.task_id, f"acknowledged at {place}, and no row in tasks")
        elif message.event_id and (message.task_id, message.event_id) not in e.events:
            text = f"event {message.event_id!r} acknowledged at {place}, and no row in inbox"
            yield _found("I1", message.task_id, text)
    for place, end in (e.ends or {}).items():
        position = (e.positions or {}).get(place, 0)
        if position != end:
            yield _found("I1", place, f"read up to {position}, and the topic ends at {end}")


def _journals(e: Evidence) -> Iterator[Finding]:
    steps = _by_task(e)
    for task in e.tasks:
        own = steps.get(task.task_id, [])
        seqs = [step.seq for step in own]
        if seqs != list(range(1, task.seq + 1)):
            yield _found("I2", task.task_id, f"tasks.seq is {task.seq}, steps are {seqs}")
        epochs = [step.epoch for step in own]
        if epochs != sorted(epochs):
            yield _found("I2", task.task_id, f"epochs of its steps fall: {epochs}")


def _effects(e: Evidence) -> Iterator[Finding]:
    for key, count in Counter(effect.key for effect in e.effects).items():
        if count > 1:
            yield _found("I3", key, f"{count} effects under one key")
    for (task_id, agent), count in Counter((x.task_id, x.agent) for x in e.effects).items():
        if count > 1:
            yield _found("I3", task_id, f"{count} effects at {agent}, one is what it asked for")
    done = {effect.key for effect in e.effects}
    for step in e.steps:
        is_own = step.kind == "result" and step.status == "success"
        if is_own and step.key not in done and kind_of(step.task_id) != BY_HAND:
            yield _found("I3", step.task_id, f"result of {step.key} journaled, and no effect")


def _requests(e: Evidence) -> Iterator[Finding]:
    payloads: dict[str, set[str]] = defaultdict(set)
    for send in e.sends:
        payloads[send.key].add(send.payload)
    for key, different in payloads.items():
        if len(different) > 1:
            yield _found("I3", key, f"{len(different)} different requests under one key")
    for key, count in Counter(s.key for s in e.sends if s.agent == FORGETFUL).items():
        if count > 1:
            yield _found("I3", key, f"sent {count} times to an at_most_once agent")


def _too_late(e: Evidence) -> Iterator[Finding]:
    return (request.finding for request in _not_thawed(e))


def _not_thawed(e: Evidence) -> Iterator[_Late]:
    """Without those that no worker could hold back: one that is stopped behind its last look.

    It sends one request at a time, so that each freeze explains one.
    """
    thawed: dict[Freeze, float] = {}
    for request in sorted(_late(e), key=lambda late: late.arrived_at):
        freezes = (f for f in e.freezes if _is_at_thaw(request, f))
        if not any(thawed.setdefault(f, request.arrived_at) == request.arrived_at for f in freezes):
            yield request


def _is_at_thaw(request: _Late, freeze: Freeze) -> bool:
    is_of_meanwhile = freeze.frozen_at <= request.known_at <= freeze.thawed_at
    return is_of_meanwhile and 0 <= request.arrived_at - freeze.thawed_at <= THAW_SECONDS


def _late(e: Evidence) -> Iterator[_Late]:
    yield from _of_older_owners(e)
    yield from _asked_again(e)
    yield from _called_again(e)


def _of_older_owners(e: Evidence) -> Iterator[_Late]:
    newest: dict[str, Send] = {}
    for send in e.sends:
        before = newest.setdefault(send.task_id, send)
        if send.epoch < before.epoch:
            text = f"{send.agent} heard of epoch {send.epoch} after {before.epoch}: call {send.key}"
            found = _found("I2", send.task_id, text)
            yield _Late(finding=found, known_at=before.at, arrived_at=send.at)
        elif send.epoch > before.epoch:
            newest[send.task_id] = send


def _asked_again(e: Evidence) -> Iterator[_Late]:
    decided: dict[str, list[float]] = defaultdict(list)
    for step in e.steps:
        if step.kind == "decision":
            decided[step.task_id].append(step.at)
    for prompt in e.prompts:
        times = decided.get(prompt.task_id, [])
        if prompt.turn < len(times) and prompt.at > times[prompt.turn]:
            known_at = times[prompt.turn]
            text = (
                f"turn {prompt.turn} asked for {prompt.at - known_at:.3f} s after it was journaled"
            )
            found = _found("I4", prompt.task_id, text)
            yield _Late(finding=found, known_at=known_at, arrived_at=prompt.at)


def _called_again(e: Evidence) -> Iterator[_Late]:
    ended: dict[str, float] = {}
    for step in e.steps:
        # One that was cut is unknown: its bytes may have been on their way for long.
        if step.kind == "result" and step.status not in ("accepted", "unknown"):
            ended.setdefault(step.key, step.at)
    for send in e.sends:
        known_at = ended.get(send.key)
        if known_at is not None and send.at > known_at:
            text = f"call {send.key} made {send.at - known_at:.3f} s after its result"
            found = _found("I4", send.task_id, text)
            yield _Late(finding=found, known_at=known_at, arrived_at=send.at)


def _updates(e: Evidence) -> Iterator[Finding]:
    told: dict[str, list[Update]] = defaultdict(list)
    seen: set[str] = set()
    for update in e.updates:
        if update.id not in seen:
            seen.add(update.id)
            told[update.task_id].append(update)
    for task in e.tasks:
        seqs = [update.seq for update in told[task.task_id]]
        if seqs != list(range(1, task.seq + 1)):
            yield _found("I5", task.task_id, f"steps 1 to {task.seq}, updates {seqs}")
    if e.outbox:
        yield _found("I5", "-", f"{e.outbox} rows of the outbox were never published")


def _unfinished(e: Evidence) -> Iterator[Finding]:
    for task in e.tasks:
        expected = _ends(kind_of(task.task_id))
        if task.status not in expected:
            text = f"{task.status} ({task.reason}), owner {task.owner}; expected {expected}"
            yield _found("I6", task.task_id, text)


def _ends(kind: str) -> tuple[str, ...]:
    if kind == POISON:
        return ("quarantined",)
    return ("completed", "cancelled") if kind in MAY_BE_CANCELLED else ("completed",)


def _dead_letters(e: Evidence) -> Iterator[Finding]:
    bad = {i.place: i for i in e.inputs if i.is_bad}
    poisoned = {i.place for i in e.inputs if kind_of((i.key or b"").decode()) == POISON}
    ids: dict[str, set[str]] = defaultdict(set)
    for letter in e.letters:
        if letter.place in poisoned and letter.reason == "crash_loop":
            continue
        ids[letter.place].add(letter.id)
        original = bad.get(letter.place)
        if original is None:
            text = f"dead letter ({letter.reason}) of a good message at {letter.place}"
            yield _found("I8", str(letter.key), text)
        elif (letter.key, letter.value) != (original.key, original.value):
            text = f"the dead letter of {letter.place} has other bytes: {letter.value!r}"
            yield _found("I8", str(letter.key), text)
    for place, original in bad.items():
        if len(ids[place]) != 1:
            text = f"{len(ids[place])} dead letters of the bad message at {place}"
            yield _found("I8", str(original.key), text)


def _by_task(e: Evidence) -> dict[str, list[StepRow]]:
    found: dict[str, list[StepRow]] = defaultdict(list)
    for step in e.steps:
        found[step.task_id].append(step)
    return found


def _found(invariant: str, task_id: str, text: str) -> Finding:
    return Finding(invariant=invariant, task_id=task_id, text=text)
