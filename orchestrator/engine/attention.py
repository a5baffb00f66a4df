"""Messages that can't wait: while a task runs, somebody may cancel it, pause it, or answer a call.

A runner reads its inbox when it commits, and during a long call it commits nothing. So the worker
looks at the inboxes of all its running tasks, with one question for all of them: at once when it is
told that there is something, and now and then, for a notice may be lost.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import timedelta

from orchestrator.domain.errors import StoreUnavailable
from orchestrator.domain.ids import TaskKey
from orchestrator.telemetry.logs import get_logger

LOOK_SECONDS = 0.1
"""Between two looks at least, however many notices come."""

log = get_logger(__name__)


class Attention:
    """Its loop alone looks; `wake` may be called by anyone at any time."""

    def __init__(
        self,
        *,
        look: Callable[[], Awaitable[Sequence[TaskKey]]],
        ring: Callable[[Iterable[TaskKey]], None],
        is_idle: Callable[[], bool],
        every: timedelta,
    ) -> None:
        """`look` finds the running tasks with such messages, `ring` tells their runners."""
        self._look = look
        self._ring = ring
        self._is_idle = is_idle
        self._every_seconds = every.total_seconds()
        self._wake = asyncio.Event()
        self._rung: frozenset[TaskKey] = frozenset()
        """What the last look found."""

    def wake(self) -> None:
        """There may be such a message."""
        self._wake.set()

    async def run(self) -> None:
        """Looks until cancelled; not at all while nothing runs here."""
        while True:
            try:
                async with asyncio.timeout(self._every_seconds * random.uniform(0.75, 1.0)):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            if not self._is_idle():
                await self._look_once()
                await asyncio.sleep(LOOK_SECONDS)

    async def _look_once(self) -> None:
        try:
            found = await self._look()
        except StoreUnavailable as error:
            log.debug("inboxes wait for PostgreSQL", error=str(error))
            return
        self._ring(found)
        rung, self._rung = self._rung, frozenset(found)
        if self._rung != rung:
            self.wake()  # once more, for one of them may just be loading; some read it later
