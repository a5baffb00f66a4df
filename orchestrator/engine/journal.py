"""Group commit: what many tasks want to write goes into one statement and one commit.

A batch is whatever waits when the last one is done; no timer. One statement is in flight, so that a
task's entries are written in the order in which they were given, and whoever awaits an entry knows
that all earlier entries of its task are written too.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from orchestrator.domain.errors import OrchestratorError, StoreRejected, StoreUnavailable
from orchestrator.domain.ids import Epoch, Seq, TaskKey
from orchestrator.store.errors import RETRY_SECONDS
from orchestrator.store.journal import Entry, Written
from orchestrator.telemetry.logs import get_logger

MAX_ROWS = 512
MAX_BYTES = 1024 * 1024
"""Of steps in one statement; a single entry may be larger."""

Write = Callable[[Sequence[Entry]], Awaitable[dict[TaskKey, Written]]]

log = get_logger(__name__)


class Fenced(OrchestratorError):
    """The task has a newer owner: nothing of this entry was written."""

    code = "fenced"


class Poisoned(OrchestratorError):
    """PostgreSQL refuses a value of this task; `seq` is the first step that was not written."""

    code = "store_rejected"

    def __init__(self, text: str, *, seq: Seq) -> None:
        super().__init__(text)
        self.seq = seq


@dataclass(slots=True)
class _Pending:
    entry: Entry
    done: "asyncio.Future[Written] | None"


def merge(entries: Sequence[Entry]) -> Entry:
    """One task's entries as one: all steps, and the last word about its state."""
    last = entries[-1]
    if len(entries) == 1:
        return last
    return replace(
        last,
        steps=tuple(step for e in entries for step in e.steps),
        applied=tuple(pair for e in entries for pair in e.applied),
        # An earlier entry's context lacks what later steps changed: the steps alone are right.
    )


class Journal:
    """Owned by the worker; runners give it entries, its own loop alone writes."""

    def __init__(self, write: Write, *, written: Callable[[], None]) -> None:
        """`write` is the store's statement, `written` is called after each batch."""
        self._write = write
        self._written = written
        self._waiting: list[_Pending] = []
        self._wake = asyncio.Event()
        self._refused: dict[tuple[TaskKey, Epoch], Poisoned] = {}
        self._is_writing = False
        self._idle = asyncio.Event()

    @property
    def backlog(self) -> int:
        """Entries that are not written yet."""
        return len(self._waiting)

    def enqueue(self, entry: Entry) -> None:
        """Writes soon; the task's next `commit` covers it."""
        self._waiting.append(_Pending(entry, None))
        self._wake.set()

    async def commit(self, entry: Entry) -> Written:
        """Returns when the entry is on disk.

        Raises:
            Fenced: the task has a newer owner.
            Poisoned: a value of this or of an earlier entry of the task can't be stored.
        """
        future: asyncio.Future[Written] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Pending(entry, future))
        self._wake.set()
        return await future

    def forgive(self, key: TaskKey, epoch: Epoch) -> None:
        """Takes entries of a refused task again; its owner mended what was refused."""
        self._refused.pop((key, epoch), None)

    async def flush(self) -> None:
        """Returns when everything that was given so far is written."""
        while self._waiting or self._is_writing:
            self._idle.clear()
            await self._idle.wait()

    async def run(self) -> None:
        """Writes batches until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._is_writing = True
            while self._waiting:
                await self._write_batch(self._next_batch())
                self._written()
            self._is_writing = False
            self._idle.set()

    def _next_batch(self) -> list[_Pending]:
        size, count = 0, 0
        for pending in self._waiting[:MAX_ROWS]:
            size += _size(pending.entry)
            if count and size > MAX_BYTES:
                break
            count += 1
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        return batch

    async def _write_batch(self, batch: list[_Pending]) -> None:
        by_task: dict[tuple[TaskKey, Epoch], list[_Pending]] = {}
        for pending in batch:
            identity = (pending.entry.key, pending.entry.epoch)
            refused = self._refused.get(identity)
            if refused is not None:
                _fail([pending], refused)
                continue
            by_task.setdefault(identity, []).append(pending)
        # A task that was fenced here and claimed again by this very worker may have entries of both
        # epochs in one batch; a statement takes one entry a task, so the older ones go first.
        groups = sorted(by_task.values(), key=lambda group: group[0].entry.epoch)
        while groups:
            seen: set[TaskKey] = set()
            now: list[list[_Pending]] = []
            later: list[list[_Pending]] = []
            for group in groups:
                (later if group[0].entry.key in seen else now).append(group)
                seen.add(group[0].entry.key)
            await self._write_groups(now)
            groups = later

    async def _write_groups(self, groups: list[list[_Pending]]) -> None:
        try:
            answer = await self._persist([merge([p.entry for p in g]) for g in groups])
        except StoreRejected as error:
            await self._bisect(groups, error)
            return
        for group in groups:
            written = answer.get(group[0].entry.key)
            if written is None:
                _fail(group, Fenced(f"task {group[0].entry.key} has a newer owner"))
                continue
            for pending in group:
                if pending.done is not None and not pending.done.done():
                    pending.done.set_result(written)

    async def _bisect(self, groups: list[list[_Pending]], error: StoreRejected) -> None:
        """One bad value must not fail the tasks that happened to share its batch."""
        if len(groups) > 1:
            middle = len(groups) // 2
            await self._write_groups(groups[:middle])
            await self._write_groups(groups[middle:])
            return
        group = groups[0]
        if len(group) > 1:
            # What the task wrote before the bad value did happen, and is kept.
            middle = len(group) // 2
            await self._write_batch(group[:middle])
            await self._write_batch(group[middle:])
            return
        entry = group[0].entry
        seq = entry.steps[0].seq if entry.steps else Seq(entry.seq + 1)
        poisoned = Poisoned(str(error), seq=seq)
        # Later entries would leave a gap behind the one that is missing.
        self._refused[entry.key, entry.epoch] = poisoned
        _fail(group, poisoned)

    async def _persist(self, entries: Sequence[Entry]) -> dict[TaskKey, Written]:
        """Sends the same rows until PostgreSQL answers: a second time changes nothing."""
        backoff = 0.05
        while True:
            try:
                return await self._write(entries)
            except StoreUnavailable as error:
                log.debug("journal waits for PostgreSQL", entries=len(entries), error=str(error))
                await asyncio.sleep(backoff)
                backoff = min(backoff * 2, RETRY_SECONDS)


def _size(entry: Entry) -> int:
    try:
        return entry.size
    except StoreRejected:
        return 0  # it is refused when it is written, and says so there


def _fail(group: Sequence[_Pending], error: OrchestratorError) -> None:
    for pending in group:
        if pending.done is not None and not pending.done.done():
            pending.done.set_exception(error)
