"""Tasks in memory: none is run twice under one epoch, none is forgotten, whatever ends it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from orchestrator.agents.targets import Targets
from orchestrator.domain.errors import StoreUnavailable, UnreadableJournal
from orchestrator.domain.ids import Epoch, TaskKey
from orchestrator.domain.task import TaskStatus
from orchestrator.engine.calls import Calls
from orchestrator.engine.clock import boot_seconds
from orchestrator.engine.journal import Journal
from orchestrator.engine.lease import Lease
from orchestrator.engine.options import EngineOptions
from orchestrator.engine.running import Capacity, Running
from orchestrator.engine.tools import Tools
from orchestrator.store.ingest import Claimed
from orchestrator.store.journal import Entry, Written
from orchestrator.store.loading import Deferred, Loaded, Unreadable
from tests.fakes.scripted_caller import ScriptedCaller
from tests.fakes.scripted_planner import ScriptedPlanner, complete
from tests.unit.engine.journals import NOW, snapshot

OPTIONS = EngineOptions(worker_name="w")
MINE = Claimed(key=TaskKey(1), epoch=Epoch(3))
NEWER = Claimed(key=TaskKey(1), epoch=Epoch(4))
OTHER = Claimed(key=TaskKey(2), epoch=Epoch(1))


class FakeStore:
    """One task, which this worker owns under the epoch that it was loaded with."""

    def __init__(self) -> None:
        self.loads: list[Sequence[TaskKey]] = []
        self.answer: Loaded | Unreadable | None = Loaded(
            snapshot=snapshot(required=()), inbox=(), wake=0, claims=2
        )
        """None: it is not owned."""
        self.loading = asyncio.Event()
        self.may_load = asyncio.Event()
        self.may_load.set()
        self.returned: list[tuple[Claimed, timedelta | None]] = []
        self.is_away = False
        self.rests: list[TaskStatus] = []
        self.missed: set[Claimed] = set()

    async def load(
        self, keys: Sequence[TaskKey], max_bytes: int
    ) -> list[Loaded | Unreadable | Deferred]:
        self.loads.append(keys)
        self.loading.set()
        await self.may_load.wait()
        return [] if self.answer is None else [self.answer]

    def answer_one_load(self) -> None:
        """The one under way; the next one waits."""
        self.may_load.set()
        self.may_load.clear()

    async def give_back(self, tasks: Sequence[Claimed], delay: timedelta | None) -> int:
        if self.is_away:
            raise StoreUnavailable("gone")
        self.returned += [(task, delay) for task in tasks]
        return len(tasks)

    async def write(self, entries: Sequence[Entry]) -> dict[TaskKey, Written]:
        status = {e.key: e.rest.status if e.rest else TaskStatus.RUNNING for e in entries}
        self.rests += [e.rest.status for e in entries if e.rest]
        return {key: Written(status=s, wake=0) for key, s in status.items()}


@asynccontextmanager
async def running(store: FakeStore, planner: ScriptedPlanner) -> AsyncIterator[Running]:
    lease = Lease(timedelta(hours=1))
    lease.renew(boot_seconds())
    journal = Journal(store.write, written=lambda: None)
    tools = Tools(
        planner=planner,
        agents=no_agents,
        calls=Calls(
            caller=ScriptedCaller(),
            targets=Targets(),
            lease=lease,
            options=OPTIONS,
            now=lambda: NOW,
        ),
        journal=journal,
        lease=lease,
        options=OPTIONS,
        unread=nothing_unread,
        now=lambda: NOW,
        rested=lambda _: None,
        parked=lambda _: None,
    )
    tasks = Running(
        tools,
        load=store.load,
        give_back=store.give_back,
        capacity=Capacity(tasks=5),
        freed=lambda: None,
        missed=store.missed.update,
    )
    loops = [asyncio.create_task(journal.run()), asyncio.create_task(tasks.run())]
    try:
        yield tasks
    finally:
        for loop in loops:
            loop.cancel()
        await asyncio.wait(loops)


async def no_agents(_tenant: str) -> Sequence[Any]:
    return ()


async def nothing_unread(_key: TaskKey) -> Any:
    return (), 0


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(2):
        while not condition():  # noqa: ASYNC110 (it lets the others run)
            await asyncio.sleep(0)


class Thinking:
    """A planner's turn that takes until the test says so, and how many think at once."""

    def __init__(self) -> None:
        self.begun = 0
        self.may_end = asyncio.Event()

    async def __call__(self, _: Any) -> Any:
        self.begun += 1
        await self.may_end.wait()
        return complete()


async def test_a_task_runs_until_its_rest_and_leaves() -> None:
    store = FakeStore()
    async with running(store, ScriptedPlanner(complete())) as tasks:
        tasks.start([MINE])
        assert (len(tasks), tasks.room, tasks.tasks()) == (1, 4, {MINE})
        await until(lambda: len(tasks) == 0)
    assert (store.rests, tasks.unsettled(), store.returned) == (["completed"], frozenset(), [])


async def test_a_task_that_is_started_again_while_it_runs_runs_once() -> None:
    store, thinking = FakeStore(), Thinking()
    async with running(store, ScriptedPlanner(thinking)) as tasks:
        tasks.start([MINE])
        await until(lambda: thinking.begun == 1)
        tasks.start([MINE])
        assert store.loads == [[MINE.key]]
        thinking.may_end.set()
        await until(lambda: len(tasks) == 0)
    assert thinking.begun == 1


async def test_a_claim_that_is_heard_of_while_an_older_one_is_loaded_runs_once() -> None:
    store, thinking = FakeStore(), Thinking()
    store.may_load.clear()
    older = Claimed(key=MINE.key, epoch=Epoch(2))
    async with running(store, ScriptedPlanner(thinking)) as tasks:
        tasks.start([older])
        await store.loading.wait()
        tasks.start([MINE])
        store.answer_one_load()
        await until(lambda: thinking.begun == 1)
        tasks.start([OTHER])
        await until(lambda: len(store.loads) == 2)
        thinking.may_end.set()
        await until(lambda: not tasks._runners)
        store.may_load.set()  # the answer is of the time when the first one ran
        await until(lambda: len(tasks) == 0)
    assert (thinking.begun, store.loads) == (1, [[MINE.key], [OTHER.key]])


async def test_what_was_loaded_before_a_task_was_lost_is_not_begun_by_who_claims_it_late() -> None:
    store, thinking = FakeStore(), Thinking()
    store.may_load.clear()
    async with running(store, ScriptedPlanner(thinking)) as tasks:
        tasks.start([MINE])
        await store.loading.wait()
        tasks.drop([MINE])
        tasks.start([MINE])  # an answer that was under way for long
        store.answer_one_load()
        await until(lambda: len(store.loads) == 2)
        store.answer = None
        store.may_load.set()
        await until(lambda: len(tasks) == 0)
    assert thinking.begun == 0


async def test_a_claim_that_is_lost_before_it_is_loaded_is_told() -> None:
    store = FakeStore()
    store.may_load.clear()
    async with running(store, ScriptedPlanner()) as tasks:
        tasks.start([MINE])
        await store.loading.wait()
        tasks.drop([MINE])
        assert (store.missed, tasks.tasks()) == ({MINE}, set())


async def test_what_is_lost_is_not_believed_in_while_it_is_stopped() -> None:
    store, thinking = FakeStore(), Thinking()
    async with running(store, ScriptedPlanner(thinking)) as tasks:
        tasks.start([MINE])
        await until(lambda: thinking.begun == 1)
        tasks.drop([MINE])
        assert (len(tasks), tasks.tasks(), store.missed) == (1, set(), set())


async def test_a_newer_claim_outlives_the_loss_of_the_older_one() -> None:
    store = FakeStore()
    store.may_load.clear()
    older = Claimed(key=MINE.key, epoch=Epoch(2))
    async with running(store, ScriptedPlanner(complete())) as tasks:
        tasks.start([older])
        tasks.start([MINE])
        await store.loading.wait()
        tasks.drop([older])
        store.answer_one_load()
        await until(lambda: len(tasks) == 0)
    assert (store.rests, len(store.loads)) == (["completed"], 1)


async def test_a_task_whose_runner_breaks_is_given_back_later_each_time() -> None:
    store = FakeStore()
    async with running(store, ScriptedPlanner(RuntimeError("a bug"))) as tasks:
        tasks.start([MINE])
        await until(lambda: len(tasks) == 0)
    assert store.returned == [(MINE, timedelta(seconds=2))]
    assert tasks.unsettled() == frozenset()


async def test_a_task_that_could_not_be_given_back_is_not_run_again_under_its_epoch() -> None:
    store = FakeStore()
    store.is_away = True
    async with running(store, ScriptedPlanner(RuntimeError("a bug"))) as tasks:
        tasks.start([MINE])
        await until(lambda: len(tasks) == 0)
        assert tasks.unsettled() == {MINE}
        tasks.start([MINE])
        assert len(tasks) == 0
        tasks.settle([MINE])
        tasks.start([NEWER])
        assert tasks.tasks() == {NEWER}


async def test_a_runner_that_ends_in_silence_is_known() -> None:
    store = FakeStore()
    async with running(store, ScriptedPlanner(silence)) as tasks:
        tasks.start([MINE])
        await until(lambda: tasks.unsettled() == {MINE})
        assert len(tasks) == 0


async def silence(_: Any) -> Any:
    raise asyncio.CancelledError


async def test_a_task_with_a_newer_owner_is_stopped_and_nothing_is_written() -> None:
    store, thinking = FakeStore(), Thinking()
    async with running(store, ScriptedPlanner(thinking)) as tasks:
        tasks.start([MINE])
        await until(lambda: thinking.begun == 1)
        tasks.drop([NEWER])
        assert len(tasks) == 1
        tasks.drop([MINE])
        await until(lambda: len(tasks) == 0)
    assert (store.rests, store.returned) == ([], [])


async def test_a_task_that_is_stopped_at_once_takes_no_room_for_ever() -> None:
    store = FakeStore()
    store.may_load.clear()
    async with running(store, ScriptedPlanner(complete())) as tasks:
        tasks.start([MINE])
        await store.loading.wait()
        store.may_load.set()
        await until(lambda: bool(tasks._runners))
        tasks.drop([MINE])
        await until(lambda: len(tasks) == 0)
        assert tasks.room == 5


async def test_a_task_that_was_lost_while_it_was_loaded_is_not_begun() -> None:
    store, thinking = FakeStore(), Thinking()
    store.may_load.clear()
    async with running(store, ScriptedPlanner(thinking)) as tasks:
        tasks.start([MINE])
        await store.loading.wait()
        tasks.drop([MINE])
        store.may_load.set()
        await until(lambda: len(tasks) == 0)
    assert thinking.begun == 0


async def test_nothing_is_begun_once_a_drain_has_begun() -> None:
    store, thinking = FakeStore(), Thinking()
    async with running(store, ScriptedPlanner(thinking)) as tasks:
        tasks.start([MINE])
        await until(lambda: thinking.begun == 1)
        drain = asyncio.create_task(tasks.drain(timedelta(seconds=5)))
        await asyncio.sleep(0)
        tasks.start([OTHER])
        thinking.may_end.set()
        await drain
    assert (len(tasks), len(store.loads)) == (0, 1)


async def test_what_does_not_end_within_the_grace_is_stopped() -> None:
    store, thinking = FakeStore(), Thinking()
    async with running(store, ScriptedPlanner(thinking)) as tasks:
        tasks.start([MINE])
        await until(lambda: thinking.begun == 1)
        await tasks.drain(timedelta(0))
        await until(lambda: len(tasks) == 0)
    assert store.rests == []


async def test_a_journal_that_cannot_be_read_is_given_back() -> None:
    store = FakeStore()
    store.answer = Unreadable(claimed=MINE, claims=1, error=UnreadableJournal("from the future"))
    async with running(store, ScriptedPlanner()) as tasks:
        tasks.start([MINE])
        await until(lambda: len(tasks) == 0)
    assert store.returned == [(MINE, timedelta(seconds=1))]


async def test_a_claim_that_others_took_over_before_it_was_loaded_is_told() -> None:
    """Its worker did not die of it: it never began."""
    store = FakeStore()
    store.answer = None
    async with running(store, ScriptedPlanner()) as tasks:
        tasks.start([MINE])
        await until(lambda: len(tasks) == 0)
    assert store.missed == {MINE}


async def test_what_is_begun_or_given_back_was_not_missed() -> None:
    store = FakeStore()
    async with running(store, ScriptedPlanner(complete())) as tasks:
        tasks.start([MINE])
        await until(lambda: len(tasks) == 0)
        store.answer = Unreadable(claimed=OTHER, claims=1, error=UnreadableJournal("odd"))
        tasks.start([OTHER])
        await until(lambda: len(tasks) == 0)
    assert (store.missed, len(store.returned)) == (set(), 1)


class Unloadable(FakeStore):
    """No load of it ends well, and giving it back takes until the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.giving_back, self.may_give_back = asyncio.Event(), asyncio.Event()

    async def load(
        self, keys: Sequence[TaskKey], max_bytes: int
    ) -> list[Loaded | Unreadable | Deferred]:
        if keys == [OTHER.key]:
            return await super().load(keys, max_bytes)
        raise StoreUnavailable("no answer")

    async def give_back(self, tasks: Sequence[Claimed], delay: timedelta | None) -> int:
        self.giving_back.set()
        await self.may_give_back.wait()
        return await super().give_back(tasks, delay)


async def test_a_task_that_is_lost_while_it_is_given_back_ends_no_other() -> None:
    store = Unloadable()
    async with running(store, ScriptedPlanner(complete())) as tasks:
        tasks._batches._patience = timedelta(0)
        tasks.start([MINE])
        async with asyncio.timeout(5):
            while not store.giving_back.is_set():
                tasks._tools.lease.renew(boot_seconds())
                await asyncio.sleep(0)
        tasks.drop([MINE])
        store.may_give_back.set()
        await until(lambda: bool(store.returned))
        tasks.start([OTHER])
        await until(lambda: store.loads == [[OTHER.key]])
