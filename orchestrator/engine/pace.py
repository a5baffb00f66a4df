"""How many tasks are claimed at once: no more than the event loop deals with in time.

More than that would only be half done, each with a call whose answer lies unread; a worker that
dies then leaves as many calls to be made again.
"""

import asyncio

from orchestrator.engine.clock import Clock

PIECE = 16
"""Tasks that are claimed at once; the next ones when the event loop has dealt with these."""
FIRST_PIECE = 4
"""After a standstill: all that waited comes at once, and it is not known how much that is. Each
piece that the event loop dealt with in time is followed by one of twice its size."""
STANDSTILL_SECONDS = 0.5
"""In which nothing was claimed."""
CLAIM_SECONDS = 0.02
"""Between two claims, so that under load each takes several tasks."""
LATE_SECONDS = 0.03
"""By which a timer may be late in an event loop that keeps up."""
MAX_LATE_SECONDS = 0.25
"""After which the next piece is claimed all the same: others may be what keeps the processor."""


class Pace:
    """Owned by the claimer."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._piece = FIRST_PIECE
        self._claimed_at = float("-inf")

    def next_piece(self) -> int:
        """How many tasks may be claimed now."""
        if self._clock.seconds() - self._claimed_at > STANDSTILL_SECONDS:
            self._piece = FIRST_PIECE
        return self._piece

    def claimed(self) -> None:
        """Some were."""
        self._claimed_at = self._clock.seconds()

    async def catch_up(self) -> None:
        """Returns when the event loop is in time: what is begun comes before what is not."""
        began = self._clock.seconds()
        while await self.is_late():
            if self._clock.seconds() - began >= MAX_LATE_SECONDS:
                return
        self._piece = min(2 * self._piece, PIECE)

    async def is_late(self) -> bool:
        """Whether the event loop does not keep up; it takes a moment to know."""
        before = self._clock.seconds()
        await asyncio.sleep(CLAIM_SECONDS)
        return self._clock.seconds() - before > CLAIM_SECONDS + LATE_SECONDS
