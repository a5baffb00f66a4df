"""Takes tasks in: by pieces, no faster than the event loop deals with them; suspects by themselves.

Tasks come here in one more way: ingest claims what has just arrived, as many as `room` says.
"""

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from orchestrator.domain.errors import StoreUnavailable
from orchestrator.domain.ids import TaskKey, WorkerId
from orchestrator.engine.clock import Clock
from orchestrator.engine.options import EngineOptions
from orchestrator.engine.store import TaskStore
from orchestrator.store.ingest import Claimed
from orchestrator.telemetry import metrics
from orchestrator.telemetry.logs import get_logger

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
MAX_PATIENCE = 4
"""Polls between two looks, where several found nothing and nobody gave notice."""
TROUBLE_SECONDS = 1.0
"""After PostgreSQL was away, or slow, for as long no suspect is tried."""
SLOW_SECONDS = 0.1
"""For a claim."""
MAX_TROUBLE_SECONDS = 10.0
"""After which suspects are tried all the same, until the trouble is over."""
SUSPECT_SECONDS = 0.05
"""After a suspect was taken: most make a step at once, and many may wait behind it."""
UNDISTURBED_SECONDS = 1.0
"""For a suspect's first step, in which nothing else is claimed: the sooner it makes one, the less
often a worker dies beside it of something else."""

log = get_logger(__name__)


class Claimer:
    """Owned by the worker. `run` claims, everything else may be called at any time."""

    def __init__(
        self,
        store: TaskStore,
        options: EngineOptions,
        *,
        clock: Clock,
        worker: Callable[[], WorkerId],
        places: Callable[[], int],
        start: Callable[[Iterable[Claimed]], None],
    ) -> None:
        """`places` is how many tasks the worker could take, `start` runs what was taken."""
        self._store = store
        self._options = options
        self._clock = clock
        self._worker = worker
        self._places = places
        self._start = start
        self._wake = asyncio.Event()
        self._piece = FIRST_PIECE
        self._claimed_at = float("-inf")
        self._others_wait = False
        """The last look found more than it took, or could take none."""
        self._tried: TaskKey | None = None
        self._tried_until = 0.0
        """Of the suspect that was taken last, and has made no step yet."""
        self._troubled_at = float("-inf")
        """When PostgreSQL was away, or slow, for the last time."""
        self._waits_since: float | None = None
        """Of the suspects, for the trouble to be over."""

    # What others ask, and tell

    def room(self) -> int:
        """How many tasks ingest may claim right now."""
        return min(self.spare(), self._next_piece())

    def spare(self) -> int:
        """Places that nobody waits for.

        None while others wait their turn: else a flood of one tenant would take every place that
        becomes free, in the order in which it comes.
        """
        return 0 if self._others_wait else self._free()

    def wake(self) -> None:
        """There may be something runnable."""
        self._wake.set()

    def ingested(self) -> None:
        """Ingest claimed some."""
        self._claimed_at = self._clock.seconds()

    def left_ready(self) -> None:
        """Ingest left some that found no room."""
        self._others_wait = True
        self.wake()

    def freed(self) -> None:
        """A place became free: what found no room is not left to the poll."""
        if self._others_wait:
            self.wake()

    def rested(self, run_at: datetime | None) -> None:
        """A task waits until then: what is due before the next poll is not left to it either."""
        if run_at is None:
            return
        delay = (run_at - self._clock.now()).total_seconds()
        if delay < self._options.poll.total_seconds():
            self._wake_in(max(0.0, delay))

    def written(self, keys: Iterable[TaskKey]) -> None:
        """These made a step."""
        if self._tried is not None and self._tried in set(keys):
            self._tried = None
            self.wake()

    # Claims

    async def run(self) -> None:
        """Claims until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._claim_loop(), name="claims")
            group.create_task(self._suspect_loop(), name="suspects")

    async def claim_once(self) -> int:
        """Takes what is runnable and has room, a piece at most; answers how many."""
        limit = min(self._free(), self._next_piece())
        self._others_wait = limit == 0
        if limit == 0:
            return 0
        claimed = await self._store.claim(
            self._worker(),
            limit=limit,
            shared_claims=self._options.shared_claims,
            weights=self._options.tenant_weights,
        )
        # Ingest may have filled the places meanwhile.
        self._others_wait = len(claimed) == limit or self._free() == 0
        self._take(claimed)
        return len(claimed)

    async def claim_suspect(self) -> bool:
        """Takes a task that may be what kills its workers; whether it took one."""
        if self._free() == 0:
            return False
        suspects = await self._store.claim_suspect(
            self._worker(),
            shared_claims=self._options.shared_claims,
            max_claims=self._options.max_claims,
        )
        if suspects:
            log.warning("a task that made no step with other workers is tried again, undisturbed")
            self._tried = suspects[0].key
            self._tried_until = self._clock.seconds() + UNDISTURBED_SECONDS
            self._wake_in(UNDISTURBED_SECONDS)
            self._take(suspects)
        return bool(suspects)

    def _take(self, claimed: Sequence[Claimed]) -> None:
        if claimed:
            metrics.CLAIMS.labels("poll").inc(len(claimed))
            self._claimed_at = self._clock.seconds()
            self._start(claimed)

    def _free(self) -> int:
        is_trial = self._tried is not None and self._clock.seconds() < self._tried_until
        return 0 if is_trial else self._places()

    def _next_piece(self) -> int:
        if self._clock.seconds() - self._claimed_at > STANDSTILL_SECONDS:
            self._piece = FIRST_PIECE
        return self._piece

    def _wake_in(self, seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds, self.wake)

    async def _claim_loop(self) -> None:
        looks = 1  # since there was a reason for one: without, they come at greater distances
        while True:
            self._wake.clear()
            wait = self._options.poll.total_seconds() * random.uniform(0.75, 1.0)
            wait *= min(looks, MAX_PATIENCE)
            looks += 1
            began = self._clock.seconds()
            try:
                timer = await self._store.wake_due()
                if timer is not None:
                    wait = min(wait, timer.total_seconds())
                if await self.claim_once() and self._free():
                    # Of more than a piece, or of a tenant whose share was an estimate.
                    self.wake()
            except StoreUnavailable as error:
                log.debug("claims wait for PostgreSQL", error=str(error))
                self._met_trouble()
            if self._clock.seconds() - began > SLOW_SECONDS:
                self._met_trouble()
            await self._catch_up()
            try:
                async with asyncio.timeout(wait):
                    await self._wake.wait()
                    looks = 1
            except TimeoutError:
                continue

    async def _catch_up(self) -> None:
        """Returns when the event loop is in time: what is begun comes before what is not.

        More tasks than it can deal with would only be half done, each with a call whose answer lies
        unread; a worker that dies then leaves as many calls to be made again.
        """
        began = self._clock.seconds()
        while await self._is_late():
            if self._clock.seconds() - began >= MAX_LATE_SECONDS:
                return
        self._piece = min(2 * self._piece, PIECE)

    async def _is_late(self) -> bool:
        before = self._clock.seconds()
        await asyncio.sleep(CLAIM_SECONDS)
        return self._clock.seconds() - before > CLAIM_SECONDS + LATE_SECONDS

    def _met_trouble(self) -> None:
        self._troubled_at = self._clock.seconds()

    async def _is_troubled(self) -> bool:
        is_away = self._clock.seconds() - self._troubled_at < TROUBLE_SECONDS
        return await self._is_late() or is_away

    async def _trouble_over(self) -> None:
        """Returns when a suspect's trial would be a short one.

        The longer it lasts, the likelier its worker dies of something else meanwhile, and most die
        in company: where one does, the processor and PostgreSQL are busy with what follows.
        """
        while await self._is_troubled():
            now = self._clock.seconds()
            if self._waits_since is None:
                self._waits_since = now
            if now - self._waits_since >= MAX_TROUBLE_SECONDS:
                return
        self._waits_since = None

    async def _suspect_loop(self) -> None:
        """Looks seldom while there are none; where there are, the next one follows a step."""
        wait = seldom = self._options.lease.total_seconds() / 2
        while True:
            await self._trouble_over()
            try:
                wait = SUSPECT_SECONDS if await self.claim_suspect() else min(2 * wait, seldom)
            except StoreUnavailable as error:
                log.debug("suspects wait for PostgreSQL", error=str(error))
                self._met_trouble()
            await asyncio.sleep(wait * random.uniform(0.8, 1.2))
