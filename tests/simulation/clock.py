"""Processes in one thread on one clock: when all of them wait, time jumps to whoever is next.

Each process has its own event loop, so it can be frozen (its coroutines stand still while timers
and answers pile up) and killed (nothing of it runs any more; what it sent is still on its way).
The order of everything follows from the order of the calls: the same seed gives the same run.
"""

import asyncio
import contextvars
import heapq
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

Context = contextvars.Context


class Deadlock(AssertionError):
    """Nothing is left that could ever happen, and somebody still waits."""


async def passes(seconds: float) -> None:
    """So much simulated time; it takes none of ours."""
    await asyncio.sleep(seconds)  # words: the clock jumps


class Machine:
    """The clock, and the processes' turns."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.turns = 0
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._count = 0

    def later(self, when: float, handle: asyncio.TimerHandle) -> None:
        self._count += 1
        heapq.heappush(self._timers, (when, self._count, handle))

    def soon(self, handle: asyncio.Handle) -> None:
        self._ready.append(handle)

    def process(self, name: str) -> "Process":
        # It has of a loop what coroutines that do no I/O ask for.
        return Process(self, name)  # type: ignore[abstract]

    def run(self, until: "asyncio.Future[T]") -> T:
        """Everyone's turns until this is there."""
        while not until.done():
            self._one_round(until)
        return until.result()

    def _one_round(self, until: "asyncio.Future[Any]") -> None:
        ready = self._ready
        previous: Process | None = None
        try:
            while ready:
                handle = ready.popleft()
                process: Process = handle._loop  # type: ignore[attr-defined]
                if handle._cancelled or not process.takes(handle):
                    continue
                if process is not previous:
                    events._set_running_loop(process)
                    previous = process
                self.turns += 1
                handle._run()
        finally:
            events._set_running_loop(None)
        if not until.done():
            self._jump()

    def _jump(self) -> None:
        """To the next timer, and all that are due at the same moment."""
        timers = self._timers
        while timers and timers[0][2]._cancelled:
            heapq.heappop(timers)
        if not timers:
            raise Deadlock("nothing is left to happen")
        self.time = max(self.time, timers[0][0])
        while timers and timers[0][0] <= self.time:
            self._ready.append(heapq.heappop(timers)[2])


class Process(asyncio.AbstractEventLoop):
    """A process's event loop; what its coroutines do goes through the machine's turns."""

    def __init__(self, machine: Machine, name: str) -> None:
        self.name = name
        self.machine = machine
        self.is_frozen = False
        self.frozen_at = 0.0
        self.is_cut = False
        """Killed: what it still says reaches nobody."""
        self.complaints: list[str] = []
        """Of exceptions that nobody took."""
        self._parked: list[asyncio.Handle] = []
        self._tasks: dict[asyncio.Task[Any], None] = {}

    def takes(self, handle: asyncio.Handle) -> bool:
        """Whether it may run this now; what comes while it is frozen is kept."""
        if self.is_frozen:
            self._parked.append(handle)
        return not self.is_frozen

    def freeze(self) -> None:
        if not self.is_frozen:
            self.is_frozen, self.frozen_at = True, self.machine.time

    def thaw(self) -> None:
        self.is_frozen = False
        for handle in self._parked:
            self.machine.soon(handle)
        self._parked.clear()

    def kill(self) -> None:
        """Ends it between two turns: whatever its coroutines do on their way out is lost."""
        self.is_cut = True
        self.thaw()
        for task in list(self._tasks):
            task.cancel()

    @property
    def is_gone(self) -> bool:
        return not self._tasks

    # What asyncio asks of a loop.

    def time(self) -> float:
        return self.machine.time

    def call_soon(
        self,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self.machine.soon(handle)
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self.machine.time + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self.machine.later(when, handle)
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is skipped when its time comes."""

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, T], **options: Any
    ) -> "asyncio.Task[T]":
        task = asyncio.Task(coro, loop=self, **options)
        self._tasks[task] = None
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.pop(task, None)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self.is_cut:
            self.complaints.append(f"{context.get('message')}: {context.get('exception')!r}")
