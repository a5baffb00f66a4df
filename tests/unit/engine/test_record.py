"""One task's own journal: how steps are numbered, and what is written of them and when."""

from collections.abc import Sequence
from datetime import UTC, datetime

import orjson

from orchestrator.domain.context import Context
from orchestrator.domain.decision import Delegate, Usage
from orchestrator.domain.ids import Epoch, Seq, TaskId, TaskKey
from orchestrator.domain.json import JsonObject
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.step import Accepted, Decided, EventApplied, Failed, Step
from orchestrator.domain.task import Task, TaskStatus
from orchestrator.engine.journal import Journal
from orchestrator.engine.record import CONTEXT_BYTES, CONTEXT_EVERY_STEPS, Record
from orchestrator.store.journal import Entry, Rest, Written
from orchestrator.store.loading import Loaded

NOW = datetime(2030, 1, 1, tzinfo=UTC)
TOLD = EventApplied(event_type="data")
LARGE: JsonObject = {"event_data": {"text": "x" * CONTEXT_BYTES}}
REST = Rest(status=TaskStatus.WAITING)


class KeptJournal(Journal):
    """Keeps what it is given and writes it nowhere."""

    def __init__(self) -> None:
        super().__init__(self._nowhere, written=lambda: None)
        self.entries: list[Entry] = []
        self.forgiven: list[tuple[TaskKey, Epoch]] = []

    async def _nowhere(self, entries: Sequence[Entry]) -> dict[TaskKey, Written]:
        raise AssertionError("nothing is written here")

    def enqueue(self, entry: Entry) -> None:
        self.entries.append(entry)

    async def commit(self, entry: Entry) -> Written:
        self.entries.append(entry)
        return Written(status=TaskStatus.RUNNING, wake=entry.seen)

    def forgive(self, key: TaskKey, epoch: Epoch) -> None:
        self.forgiven.append((key, epoch))


def decided(tokens: int) -> Decided:
    return Decided(decision=Delegate(), usage=Usage(output_tokens=tokens))


def loaded() -> Loaded:
    """A task with two steps, of which one cost 5 tokens."""
    task = Task(key=TaskKey(1), task_id=TaskId("t"), description="d", created_at=NOW)
    context = Context(required_fields=("email",))
    accepted = Accepted(description="d")
    steps = (
        Step(seq=Seq(1), body=accepted, change=context.to_json(), at=NOW),
        Step(seq=Seq(2), body=decided(5), at=NOW),
    )
    snapshot = Snapshot(task=task, epoch=Epoch(7), context=context, steps=steps)
    return Loaded(snapshot=snapshot, inbox=(), wake=4)


def begin() -> tuple[Record, KeptJournal]:
    journal = KeptJournal()
    return Record(loaded(), journal, now=lambda: NOW), journal


def context_of(entry: Entry) -> Context | None:
    return None if entry.context is None else Context.from_json(orjson.loads(entry.context))


def test_steps_are_numbered_on_from_what_was_loaded() -> None:
    record, _ = begin()
    assert [record.next(TOLD).seq, record.next(TOLD, ahead=2).seq] == [3, 4]
    record.add(TOLD)
    assert record.next(TOLD).seq == 4


def test_what_is_added_is_in_the_snapshot_at_once_with_its_change_and_its_time() -> None:
    record, _ = begin()
    record.add(TOLD, change={"collected_data": {"email": "a"}})
    assert record.snapshot.context.is_complete
    assert (record.snapshot.seq, record.snapshot.steps[-1].at) == (3, NOW)


def test_an_added_step_is_handed_on_without_the_context() -> None:
    record, journal = begin()
    record.add(TOLD, change={"event_data": {"a": 1}})
    step = Step(seq=Seq(3), body=TOLD, change={"event_data": {"a": 1}})
    assert journal.entries == [
        Entry(key=TaskKey(1), epoch=Epoch(7), seq=Seq(3), steps=(step,), tokens=5, seen=4)
    ]


def test_steps_go_with_the_messages_that_they_apply() -> None:
    record, journal = begin()
    record.enqueue([record.next(TOLD)], applied=((17, Seq(3)),))
    assert journal.entries[0].applied == ((17, Seq(3)),)


async def test_a_commit_carries_context_rest_and_tokens_so_far() -> None:
    record, journal = begin()
    record.seen = 9
    await record.commit([record.next(decided(6), change={"current_state": "x"})], rest=REST)
    (entry,) = journal.entries
    assert (entry.tokens, entry.seen, entry.rest) == (11, 9, REST)
    assert context_of(entry) == Context(required_fields=("email",), current_state="x")


async def test_a_commit_without_steps_is_a_rest_alone() -> None:
    record, journal = begin()
    await record.commit([], rest=REST)
    assert (journal.entries[0].steps, journal.entries[0].seq) == ((), 2)


async def test_what_comes_after_a_rest_is_dropped() -> None:
    record, journal = begin()
    await record.commit([record.next(TOLD)], rest=REST)
    record.add(TOLD)
    assert (len(journal.entries), record.snapshot.seq) == (1, 3)


async def test_a_rest_that_cannot_be_stored_closes_nothing() -> None:
    record, journal = begin()
    await record.commit([record.next(TOLD)], rest=REST)
    await record.commit_instead(Seq(3), TOLD, change={})
    record.add(TOLD)
    assert journal.entries[-1].seq == 4


async def test_a_large_context_is_not_written_with_each_commit() -> None:
    record, journal = begin()
    await record.commit([record.next(TOLD, change=LARGE)])
    assert journal.entries[0].context is None


async def test_a_large_context_is_written_at_rest() -> None:
    record, journal = begin()
    await record.commit([record.next(TOLD, change=LARGE)], rest=REST)
    assert context_of(journal.entries[0]) == record.snapshot.context


async def test_a_large_context_is_written_now_and_then() -> None:
    record, journal = begin()
    for _ in range(2 * CONTEXT_EVERY_STEPS):
        await record.commit([record.next(TOLD, change=LARGE)])
    written = [entry.seq for entry in journal.entries if entry.context is not None]
    assert written == [2 + CONTEXT_EVERY_STEPS, 2 + 2 * CONTEXT_EVERY_STEPS]


async def test_a_context_that_json_cannot_hold_is_left_to_the_step_that_brought_it() -> None:
    record, journal = begin()
    await record.commit([record.next(TOLD, change={"event_data": {"n": 2**70}})])
    assert journal.entries[0].context is None


async def test_a_step_that_cannot_be_stored_is_replaced_by_the_tasks_failure() -> None:
    record, journal = begin()
    record.add(TOLD, change={"event_data": {"good": 1}})
    record.add(TOLD, change={"event_data": {"bad": "\x00"}})
    record.add(TOLD, change={"event_data": {"later": 1}})
    failed = Failed(code="store_rejected", reason="a value can't be stored")
    rest = Rest(status=TaskStatus.FAILED)
    await record.commit_instead(Seq(4), failed, change={"current_state": "failed"}, rest=rest)
    entry = journal.entries[-1]
    assert [(step.seq, step.body) for step in entry.steps] == [(4, failed)]
    assert (entry.seq, entry.rest) == (4, rest)
    assert journal.forgiven == [(1, 7)]
    assert record.snapshot.context.event_data == {"good": 1}
    assert record.snapshot.context.required_fields == ("email",)
    assert context_of(entry) == record.snapshot.context


async def test_what_a_refused_step_used_is_not_counted_in_its_place() -> None:
    record, journal = begin()
    record.add(decided(6))
    record.add(decided(2**63))
    failed = Failed(code="store_rejected", reason="a value can't be stored")
    await record.commit_instead(Seq(4), failed, change={})
    assert journal.entries[-1].tokens == 11
