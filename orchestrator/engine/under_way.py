"""What a runner has on the outside: it ends, it is cut, or the bell rings while it lasts.

Nothing outlives its block, however that is left: a call that is cut has given its slot and its
connection back before the runner goes on.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from orchestrator.telemetry.logs import get_logger

CUT_SECONDS = 2.0
"""How long what is cut may take to clean up; after that nobody waits for it."""
MAX_WAIT_SECONDS = 60.0
"""Between two looks at the clock, which PostgreSQL may have set right meanwhile."""

K = TypeVar("K")
T = TypeVar("T")

log = get_logger(__name__)


class Bell:
    """Rung by anyone; heard by the one runner that it belongs to."""

    def __init__(self) -> None:
        self._rung: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def is_rung(self) -> bool:
        return self._rung.done()

    def ring(self) -> None:
        if not self._rung.done():
            self._rung.set_result(None)

    def quiet(self) -> None:
        """To be called before looking: what comes during the look rings again."""
        if self._rung.done():
            self._rung = asyncio.get_running_loop().create_future()

    async def during(self, works: Collection["asyncio.Task[T]"], *, seconds: float) -> None:
        """Returns when it rings, when one of the works ends, or when the time is up."""
        anything: list[asyncio.Future[Any]] = [self._rung, *works]
        timeout = min(max(seconds, 0.0), MAX_WAIT_SECONDS)
        await asyncio.wait(anything, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)


@asynccontextmanager
async def under_way(
    works: Mapping[K, Coroutine[Any, Any, T]],
) -> AsyncIterator[dict[K, "asyncio.Task[T]"]]:
    """The works as tasks; those that have not ended with the block are cut."""
    tasks = {key: asyncio.create_task(work, name=f"call {key}") for key, work in works.items()}
    try:
        yield tasks
    finally:
        await _cut([task for task in tasks.values() if not task.done()])
        for task in tasks.values():
            if task.done() and not task.cancelled():
                task.exception()  # whoever wanted it has it; asyncio complains of the others


async def _cut(tasks: Collection["asyncio.Task[T]"]) -> None:
    for task in tasks:
        task.cancel()
    if not tasks:
        return
    _, left = await asyncio.wait(tasks, timeout=CUT_SECONDS)
    if left:
        log.error("what was cut does not end; nobody waits for it any more", works=len(left))


def raise_first(calls: Iterable["asyncio.Task[None]"]) -> None:
    """A call answers with a result whatever happens to it: an exception is a bug of ours."""
    for call in calls:
        if call.done() and not call.cancelled():
            call.result()
