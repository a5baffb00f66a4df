"""When a suspect (a task that may be what kills its workers) is tried, and how long undisturbed.

The longer a trial lasts, the likelier its worker dies of something else meanwhile, and most die in
company: where one does, the processor and PostgreSQL are busy with what follows. So no trial begins
in trouble, and nothing else is claimed until the suspect has made its first step.
"""

from collections.abc import Awaitable, Callable, Iterable

from orchestrator.domain.ids import TaskKey
from orchestrator.engine.clock import Clock

TROUBLE_SECONDS = 1.0
"""After PostgreSQL was away, or slow, for as long no suspect is tried."""
MAX_TROUBLE_SECONDS = 10.0
"""After which suspects are tried all the same, until the trouble is over."""
UNDISTURBED_SECONDS = 1.0
"""For a suspect's first step, in which nothing else is claimed: the sooner it makes one, the less
often a worker dies beside it of something else."""


class Trials:
    """Owned by the claimer."""

    def __init__(self, clock: Clock, is_late: Callable[[], Awaitable[bool]]) -> None:
        """`is_late` says whether the event loop keeps up, after a moment."""
        self._clock = clock
        self._is_late = is_late
        self._tried: TaskKey | None = None
        self._tried_until = 0.0
        """Of the suspect that was taken last, and has made no step yet."""
        self._troubled_at = float("-inf")
        """When PostgreSQL was away, or slow, for the last time."""
        self._waits_since: float | None = None
        """Of the suspects, for the trouble to be over."""

    @property
    def is_on(self) -> bool:
        """Whether a suspect has its time alone."""
        return self._tried is not None and self._clock.seconds() < self._tried_until

    def begin(self, suspect: TaskKey) -> None:
        self._tried = suspect
        self._tried_until = self._clock.seconds() + UNDISTURBED_SECONDS

    def written(self, keys: Iterable[TaskKey]) -> bool:
        """These made a step; whether the suspect's trial is over by that."""
        if self._tried is None or self._tried not in set(keys):
            return False
        self._tried = None
        return True

    def met_trouble(self) -> None:
        """PostgreSQL is away, or slow."""
        self._troubled_at = self._clock.seconds()

    async def trouble_over(self) -> None:
        """Returns when a trial would be a short one; trouble without an end puts off only once."""
        while await self._is_troubled():
            now = self._clock.seconds()
            if self._waits_since is None:
                self._waits_since = now
            if now - self._waits_since >= MAX_TROUBLE_SECONDS:
                return
        self._waits_since = None

    async def _is_troubled(self) -> bool:
        is_away = self._clock.seconds() - self._troubled_at < TROUBLE_SECONDS
        return await self._is_late() or is_away
