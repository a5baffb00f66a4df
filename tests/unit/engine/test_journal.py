import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from orchestrator.domain.errors import StoreRejected, StoreUnavailable
from orchestrator.domain.ids import Epoch, Seq, TaskKey
from orchestrator.domain.step import EventApplied, Step
from orchestrator.domain.task import TaskStatus
from orchestrator.engine.journal import MAX_ROWS, Fenced, Journal, Poisoned, merge
from orchestrator.store.journal import Entry, Written

BAD = "\x00"
WAITING = Written(status=TaskStatus.RUNNING, wake=0)


class FakeStore:
    """Takes what the journal writes; behaves as PostgreSQL does, when it is told to misbehave."""

    def __init__(self) -> None:
        self.batches: list[list[Entry]] = []
        self.written: dict[TaskKey, list[int]] = {}
        self.epochs: dict[TaskKey, Epoch] = {}
        self.outages = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.in_flight = 0

    async def write(self, entries: Sequence[Entry]) -> dict[TaskKey, Written]:
        self.in_flight += 1
        assert self.in_flight == 1, "two statements in flight"
        assert len({e.key for e in entries}) == len(entries), "a task twice in a statement"
        try:
            await self.gate.wait()
            return self._take(entries)
        finally:
            self.in_flight -= 1

    def _take(self, entries: Sequence[Entry]) -> dict[TaskKey, Written]:
        self.batches.append(list(entries))
        if self.outages:
            self.outages -= 1
            raise StoreUnavailable("gone")
        if any(_is_bad(s) for e in entries for s in e.steps):
            raise StoreRejected("no")
        owned = [e for e in entries if e.epoch >= self.epochs.get(e.key, Epoch(0))]
        for e in owned:
            self.written.setdefault(e.key, []).extend(s.seq for s in e.steps)
        return {e.key: WAITING for e in owned}


@asynccontextmanager
async def running(store: FakeStore) -> AsyncIterator[Journal]:
    journal = Journal(store.write, written=lambda: None)
    loop = asyncio.create_task(journal.run())
    try:
        yield journal
    finally:
        loop.cancel()
        await asyncio.wait([loop])


def entry(
    key: int, *seqs: int, text: str = "x", epoch: int = 1, context: str | None = None
) -> Entry:
    steps = tuple(Step(seq=Seq(n), body=EventApplied(event_type=text)) for n in seqs)
    last = Seq(seqs[-1] if seqs else 0)
    return Entry(key=TaskKey(key), epoch=Epoch(epoch), seq=last, steps=steps, context=context)


def _is_bad(step: Step) -> bool:
    return isinstance(step.body, EventApplied) and BAD in step.body.event_type


async def test_what_waits_during_a_write_goes_into_the_next_one_together() -> None:
    store = FakeStore()
    store.gate.clear()
    async with running(store) as journal, asyncio.TaskGroup() as group:
        group.create_task(journal.commit(entry(1, 2)))
        await asyncio.sleep(0)
        for key in range(2, 12):
            group.create_task(journal.commit(entry(key, 2)))
        await asyncio.sleep(0)
        store.gate.set()
    assert [len(batch) for batch in store.batches] == [1, 10]


async def test_a_tasks_entries_are_written_in_their_order_and_covered_by_its_commit() -> None:
    store = FakeStore()
    async with running(store) as journal:
        for seq in range(2, 50):
            journal.enqueue(entry(1, seq))
            journal.enqueue(entry(2, seq))
            if seq % 7 == 0:
                await journal.commit(entry(1))
                assert store.written[TaskKey(1)] == list(range(2, seq + 1))
        await journal.flush()
        assert journal.backlog == 0
    assert store.written[TaskKey(2)] == list(range(2, 50))


async def test_a_batch_is_bounded() -> None:
    store = FakeStore()
    async with running(store) as journal:
        for key in range(MAX_ROWS + 5):
            journal.enqueue(entry(key, 2))
        await journal.flush()
    assert [len(batch) for batch in store.batches] == [MAX_ROWS, 5]


async def test_the_same_rows_are_sent_again_until_postgresql_answers() -> None:
    store = FakeStore()
    store.outages = 2
    async with running(store) as journal:
        assert await journal.commit(entry(1, 2, 3)) == WAITING
    assert store.batches == [store.batches[0]] * 3
    assert store.written[TaskKey(1)] == [2, 3]


async def test_one_bad_value_in_512_tasks_fails_one_task() -> None:
    store = FakeStore()
    store.gate.clear()
    async with running(store) as journal:
        texts = {300: BAD}
        commits = [
            asyncio.create_task(journal.commit(entry(key, 2, text=texts.get(key, "x"))))
            for key in range(512)
        ]
        await asyncio.sleep(0)
        store.gate.set()
        outcomes = await asyncio.gather(*commits, return_exceptions=True)
    assert [key for key, out in enumerate(outcomes) if isinstance(out, Poisoned)] == [300]
    assert len(store.written) == 511
    assert len(store.batches) <= 2 * 10 + 1


async def test_what_a_task_wrote_before_the_bad_value_is_kept() -> None:
    store = FakeStore()
    async with running(store) as journal:
        journal.enqueue(entry(1, 2))
        journal.enqueue(entry(1, 3))
        journal.enqueue(entry(1, 4, text=BAD))
        journal.enqueue(entry(1, 5))
        with pytest.raises(Poisoned) as caught:
            await journal.commit(entry(1, 6))
    assert caught.value.seq == 4
    assert store.written[TaskKey(1)] == [2, 3]


async def test_nothing_is_written_behind_a_gap_until_the_task_is_mended() -> None:
    store = FakeStore()
    async with running(store) as journal:
        with pytest.raises(Poisoned):
            await journal.commit(entry(1, 2, text=BAD))
        with pytest.raises(Poisoned):
            await journal.commit(entry(1, 3))
        await journal.commit(entry(1, 3, epoch=2))
        journal.forgive(TaskKey(1), Epoch(1))
        await journal.commit(entry(1, 2))
    assert store.written[TaskKey(1)] == [3, 2]


async def test_an_entry_of_a_task_with_a_newer_owner_is_fenced() -> None:
    store = FakeStore()
    store.epochs[TaskKey(1)] = Epoch(2)
    async with running(store) as journal:
        mine, other = journal.commit(entry(1, 2)), journal.commit(entry(2, 2))
        outcomes = await asyncio.gather(mine, other, return_exceptions=True)
    assert isinstance(outcomes[0], Fenced)
    assert outcomes[1] == WAITING


async def test_two_epochs_of_a_task_never_share_a_statement() -> None:
    store = FakeStore()
    async with running(store) as journal:
        journal.enqueue(entry(1, 3, epoch=2))
        journal.enqueue(entry(1, 2, epoch=1))
        await journal.flush()
    assert [e.epoch for batch in store.batches for e in batch] == [1, 2]


async def test_an_entry_whose_runner_was_stopped_is_written_all_the_same() -> None:
    store = FakeStore()
    store.gate.clear()
    async with running(store) as journal:
        commit = asyncio.create_task(journal.commit(entry(1, 2)))
        await asyncio.sleep(0)
        commit.cancel()
        store.gate.set()
        await journal.commit(entry(2, 2))
    assert store.written == {TaskKey(1): [2], TaskKey(2): [2]}


def test_merged_entries_have_all_steps_and_no_context_that_is_older_than_they() -> None:
    merged = merge([entry(1, 2, context="{}"), entry(1, 3, 4)])
    assert [s.seq for s in merged.steps] == [2, 3, 4]
    assert (merged.seq, merged.context) == (4, None)
    assert merge([entry(1, 2), entry(1, 3, context="{}")]).context == "{}"
