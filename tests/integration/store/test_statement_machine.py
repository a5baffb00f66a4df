"""Anything in any order: after each statement PostgreSQL's tables are those of the model.

Workers that are dead and do not know it write too, and every statement may be sent twice, as after
an answer that was lost. `--hypothesis-profile=long` goes on for 2,000 examples of 50 statements.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.errors import FlakyFailure
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from orchestrator.domain.errors import NotAllowed
from orchestrator.domain.ids import Seq, TaskId, TaskKey
from orchestrator.domain.step import EventApplied, Step
from orchestrator.domain.task import TaskStatus
from orchestrator.store import claims, loading, operations, positions, upkeep, workers
from orchestrator.store.database import Database, DatabaseOptions
from orchestrator.store.ingest import Batch, NewEvent, NewTask, ingest
from orchestrator.store.journal import Entry, Rest, journal
from tests.fakes.workers import CLUSTER
from tests.integration.store.both import Both, Held, context_text, moved
from tests.model.intake import Taker
from tests.model.store import ModelStore
from tests.model.tables import TaskRow

LEASE = timedelta(minutes=10)
MAX_CLAIMS = 3
LETTERS = "dead-letters"

names = st.sampled_from(["a", "b"])
task_ids = st.sampled_from([TaskId("t1"), TaskId("t2"), TaskId("t3")])
kinds = st.sampled_from(["task", "data", "cancel"])
delays = st.sampled_from([None, timedelta(), LEASE])
statuses = st.sampled_from(
    [None, TaskStatus.WAITING, TaskStatus.WAITING, TaskStatus.COMPLETED, TaskStatus.FAILED]
)


class Statements(RuleBasedStateMachine):
    database: Database
    loop: asyncio.AbstractEventLoop
    model: type[ModelStore] = ModelStore

    def __init__(self) -> None:
        super().__init__()
        self.both = Both(self.database, self.loop, model=self.model)
        self.held: list[tuple[str, Held]] = []
        """Every claim that was ever made, with the worker that may still believe in it."""
        self.epochs: dict[TaskId, int] = {}
        self.both.do(
            positions.begin(
                self.database, CLUSTER, {("tasks", 0): positions.Position(next_offset=0)}
            )
        )
        self.both.tables.positions["tasks", 0] = 0

    # Intake

    @rule(
        ids=st.lists(st.tuples(task_ids, kinds, st.booleans()), min_size=1, max_size=4),
        name=names,
        room=st.integers(0, 2),
        is_stale=st.integers(0, 5).map(lambda n: n == 0),
    )  # fmt: skip
    def take_in(
        self, ids: Sequence[tuple[TaskId, str, bool]], name: str, room: int, *, is_stale: bool
    ) -> None:
        feed, both = self.both.feed, self.both
        if name not in both.workers:
            room = 0
        messages: list[NewTask | NewEvent] = []
        for n, (task_id, kind, has_id) in enumerate(ids):
            new = (
                feed.new_task(task_id)
                if kind == "task"
                else feed.new_event(task_id, kind, event_id="e" if has_id else None)
            )
            messages.append(moved(new, feed.offset + n))
        feed.offset -= is_stale
        batch = Batch(cluster_id=CLUSTER, advances=(feed.advance(len(ids)),), messages=(*messages,))
        feed.offset += is_stale
        for _ in range(2):  # an answer that is lost is asked for again
            self._ingest(batch, name, room)
        if not is_stale:
            feed.offset += len(ids)

    def _ingest(self, batch: Batch, name: str, room: int) -> None:
        both = self.both
        mine = both.workers.get(name, (0, 0))
        real = both.do(
            ingest(
                self.database,
                batch,
                worker=mine[0],  # type: ignore[arg-type]
                room=room,
                expected_for=2 * LEASE,
                shared_claims=MAX_CLAIMS,
            )
        )
        taker = Taker(
            worker=mine[1],  # type: ignore[arg-type]
            room=room,
            expected_for=2 * LEASE,
            shared_claims=MAX_CLAIMS,
        )
        model = both.intake.ingest(batch, taker)
        assert (real.moved, real.left_ready) == (model.moved, model.left_ready)
        assert len(real.woken) == len(model.woken)
        self.held += [(name, held) for held in both.pair(real.claimed, model.claimed)]

    # Workers

    @rule(name=names)
    def register(self, name: str) -> None:
        real = self.both.do(workers.register(self.database, name))
        self.both.workers[name] = (real, self.both.model.register(name))

    @rule(name=names)
    def heartbeat(self, name: str) -> None:
        if name in self.both.workers:
            real, model = self.both.workers[name]
            at = self.both.do(workers.heartbeat(self.database, real))
            assert (at is None) == (self.both.model.heartbeat(model) is None)

    @rule(name=names)
    def leave(self, name: str) -> None:
        if name in self.both.workers:
            real, model = self.both.workers[name]
            self.both.do(workers.leave(self.database, real))
            self.both.model.leave(model)

    @rule(name=names, limit=st.integers(1, 3))
    def claim(self, name: str, limit: int) -> None:
        both = self.both
        if name not in both.workers:
            return
        real_worker, model_worker = both.workers[name]
        may = [r for r in both.tables.tasks.values() if both.model.may_claim(r, MAX_CLAIMS)]
        real = both.do(
            claims.claim(self.database, real_worker, limit=limit, shared_claims=MAX_CLAIMS)
        )
        assert len(real) == min(limit, len(may))
        chosen = both.task_ids([c.key for c in real])
        assert set(chosen.values()) <= {r.task_id for r in may}
        model = both.model.take(model_worker, [both.model_key(chosen[c.key]) for c in real])
        self.held += [(name, held) for held in both.pair(real, model)]

    @rule(name=names, limit=st.integers(1, 3))
    def claim_beside(self, name: str, limit: int) -> None:
        both = self.both
        if name not in both.workers:
            return
        real_worker, model_worker = both.workers[name]
        real = both.do(
            claims.claim_beside(self.database, real_worker, limit=limit, shared_claims=MAX_CLAIMS)
        )
        # Those of one tenant, and of several that are pressing, may come in any order.
        may = both.model.beside(model_worker, shared_claims=MAX_CLAIMS)
        assert len(real) == min(limit, len(may))
        chosen = both.task_ids([c.key for c in real])
        model = both.model.take(model_worker, [both.model_key(chosen[c.key]) for c in real])
        self.held += [(name, held) for held in both.pair(real, model)]

    @rule(name=names)
    def look_what_is_owned(self, name: str) -> None:
        both = self.both
        if name in both.workers:
            real_worker, model_worker = both.workers[name]
            owned = both.do(claims.owned(self.database, real_worker))
            both.pair(owned, both.model.owned(model_worker))
            urgent = both.do(loading.urgent(self.database, real_worker))
            assert len(urgent) == len(both.model.urgent(model_worker))

    @precondition(lambda self: self.held)
    @rule(data=st.data(), delay=delays)
    def release(self, data: st.DataObject, delay: timedelta | None) -> None:
        name, held = data.draw(st.sampled_from(self.held))
        real, model = self.both.workers[name]
        for _ in range(2):
            given_back = self.both.do(claims.release(self.database, real, [held.real], delay=delay))
            assert given_back == self.both.model.release(model, [held.model], delay=delay)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def outlived(self, data: st.DataObject) -> None:
        _, held = data.draw(st.sampled_from(self.held))
        counted = self.both.do(claims.outlived(self.database, [held.real]))
        assert counted == self.both.model.outlived([held.model])

    # The journal

    @precondition(lambda self: self.held)
    @rule(
        data=st.data(),
        more=st.integers(0, 2),
        behind=st.sampled_from([0, 0, 0, 0, -1, 1]),
        status=statuses,
        has_read=st.booleans(),
        is_delayed=st.booleans(),
    )
    def write(self, data: st.DataObject, more: int, behind: int, status: TaskStatus | None,
              *, has_read: bool, is_delayed: bool) -> None:  # fmt: skip
        """By the owner or by one who was it once; with a hole, twice, or as it should be."""
        _, held = data.draw(st.sampled_from(self.held[-6:]))
        if held.model.key not in self.both.tables.tasks:
            return
        row = self.both.tables.tasks[held.model.key]
        begin = max(1, row.seq + behind)
        real_ids, model_ids = self.both.inbox_ids(held)
        applied = min(len(real_ids), more) if has_read else 0
        seen = row.wake - (0 if has_read else 1)
        run_at = self.both.model.now() + LEASE if is_delayed else None
        rest = None if status is None else Rest(status=status, run_at=run_at, reason="so")
        entry = Entry(
            key=TaskKey(0),
            epoch=held.real.epoch,
            seq=Seq(begin + more),
            steps=tuple(_step(begin + n) for n in range(1, more + 1)),
            context=context_text(begin) if more else None,
            seen=seen,
            rest=rest,
        )
        for _ in range(2):
            self._journal(entry, held, real_ids[:applied], model_ids[:applied])

    def _journal(self, entry: Entry, held: Held, real_ids: list[int], model_ids: list[int]) -> None:
        both = self.both
        seqs = [s.seq for s in entry.steps]
        real = _addressed(entry, held.real.key, list(zip(real_ids, seqs, strict=False)))
        if entry.rest is not None and entry.rest.run_at is not None:
            now = both.do(self.database.fetch_one("SELECT now() AS now"))
            assert now is not None
            wait = entry.rest.run_at - both.model.now()
            real = _resting(real, now["now"] + wait)
        written = both.do(journal(self.database, [real]))
        model = _addressed(entry, held.model.key, list(zip(model_ids, seqs, strict=False)))
        modelled = both.model.journal([model])
        assert list(written.values()) == list(modelled.values())

    # What any worker does for all, and what people do

    @rule()
    def reap(self) -> None:
        both = self.both
        now = both.do(self.database.fetch_one("SELECT now() AS now"))
        assert now is not None
        until = now["now"] + LEASE
        freed = both.do(claims.reap(self.database, lease=LEASE, until=until))
        assert freed == both.model.reap(lease=LEASE, until=both.model.now() + LEASE)
        gone = both.do(workers.forget_dead(self.database, lease=LEASE, until=until))
        modelled = both.model.forget_dead(lease=LEASE, until=both.model.now() + LEASE)
        assert sorted(gone) == sorted(modelled)

    @rule()
    def quarantine(self) -> None:
        real = upkeep.quarantine(self.database, max_claims=MAX_CLAIMS, dead_letters=LETTERS)
        modelled = self.both.model.quarantine(max_claims=MAX_CLAIMS, dead_letters=LETTERS)
        assert self.both.do(real) == modelled

    @rule()
    def expire(self) -> None:
        real = self.both.do(upkeep.expire_expected(self.database, dead_letters=LETTERS))
        assert real == self.both.model.expire_expected(dead_letters=LETTERS)

    @rule()
    def wake_due(self) -> None:
        real, model = self.both.do(claims.wake_due(self.database)), self.both.model.wake_due()
        assert (real is None) == (model is None)

    @rule(task_id=task_ids)
    def retry(self, task_id: TaskId) -> None:
        if task_id in self.both.tables.by_task_id:
            is_done = False
            with suppress(NotAllowed):
                is_done = bool(self.both.do(operations.retry(self.database, task_id)))
            assert is_done == self.both.intake.retry(task_id)

    @rule(minutes=st.sampled_from([4, 15]))
    def pass_time(self, minutes: int) -> None:
        self.both.pass_time(timedelta(minutes=minutes))

    # What always holds

    @invariant()
    def the_tables_are_those_of_the_model(self) -> None:
        self.both.compare()

    @invariant()
    def journals_have_no_gap_and_epochs_never_fall(self) -> None:
        tables = self.both.tables
        for row in tables.tasks.values():
            steps = tables.journal(row.id)
            assert [r.step.seq for r in steps] == list(range(1, row.seq + 1))
            assert [r.epoch for r in steps] == sorted(r.epoch for r in steps)
            assert row.epoch >= self.epochs.get(row.task_id, 0)
            self.epochs[row.task_id] = row.epoch
        self.epochs = {t: e for t, e in self.epochs.items() if t in tables.by_task_id}
        told = Counter((t.task, t.seq) for t in tables.outbox if t.task is not None)
        assert all(times == 1 for times in told.values())


def _step(seq: int) -> Step:
    return Step(seq=Seq(seq), body=EventApplied(event_type="data"))


def _addressed(entry: Entry, key: TaskKey, applied: list[tuple[int, Seq]]) -> Entry:
    return replace(entry, key=key, applied=tuple(applied))


def _resting(entry: Entry, run_at: Any) -> Entry:
    assert entry.rest is not None
    return replace(entry, rest=replace(entry.rest, run_at=run_at))


@contextmanager
def running_on(url: str, model: type[ModelStore]) -> Iterator[None]:
    loop = asyncio.new_event_loop()
    database = Database(DatabaseOptions(url=url, pool_size=1))
    loop.run_until_complete(database.open())
    Statements.database, Statements.loop, Statements.model = database, loop, model
    try:
        yield
    finally:
        loop.run_until_complete(database.close())
        loop.close()


@pytest.mark.timeout(0)
def test_the_statements_do_what_the_model_does(database_url: str) -> None:
    profile = settings()
    is_long = profile.max_examples > 1000
    chosen = settings(
        profile,
        max_examples=profile.max_examples if is_long else 25,
        stateful_step_count=50 if is_long else 30,
        suppress_health_check=list(HealthCheck),
        # To make a failure small takes longer than a short run may.
        phases=list(Phase) if is_long else [Phase.explicit, Phase.reuse, Phase.generate],
    )
    with running_on(database_url, ModelStore):
        run_state_machine_as_test(Statements, settings=chosen)


class Unfenced(ModelStore):
    """Whoever writes last, wins."""

    def may_write(self, row: TaskRow, entry: Entry) -> bool:
        return True


class Releases(ModelStore):
    """Gives nothing back."""

    def release(self, *_: Any, **__: Any) -> int:
        return 0


@pytest.mark.parametrize("broken", [Unfenced, Releases])
def test_a_statement_that_does_something_else_is_seen(
    broken: type[ModelStore], database_url: str
) -> None:
    chosen = settings(
        max_examples=100,
        stateful_step_count=50,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    with (
        running_on(database_url, broken),
        pytest.raises(
            # PostgreSQL draws lots, so the example may go another way when it is tried again.
            (AssertionError, FlakyFailure)
        ),
    ):
        run_state_machine_as_test(Statements, settings=chosen)
