"""Takes tasks in: by pieces, no faster than the event loop deals with them; suspects by themselves.

Tasks come here in one more way: ingest claims what has just arrived, as many as `room` says.
"""

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from orchestrator.domain.errors import StoreUnavailable
from orchestrator.domain.ids import TaskKey, WorkerId
from orchestrator.engine.clock import Clock
from orchestrator.engine.options import EngineOptions
from orchestrator.engine.pace import Pace
from orchestrator.engine.store import TaskStore
from orchestrator.engine.trials import UNDISTURBED_SECONDS, Trials
from orchestrator.store.errors import RETRY_SECONDS
from orchestrator.store.ingest import Claimed
from orchestrator.telemetry import metrics
from orchestrator.telemetry.logs import get_logger

MAX_PATIENCE = 4
"""Polls between two looks, where several found nothing and nobody gave notice."""
SLOW_SECONDS = 0.1
"""For a claim."""
BESIDE_SECONDS = 0.2
"""Between two looks for what does not wait for its turn, while others do."""
SUSPECT_SECONDS = 0.05
"""After a suspect was taken: most make a step at once, and many may wait behind it."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """How many tasks the worker could take."""

    free: int = 0
    beside: int = 0
    """Of those that do not wait for a place: to be ended, or a tenant's first one."""


class Claimer:
    """Owned by the worker. `run` claims, everything else may be called at any time."""

    def __init__(
        self,
        store: TaskStore,
        options: EngineOptions,
        *,
        clock: Clock,
        worker: Callable[[], WorkerId],
        places: Callable[[], Places],
        start: Callable[[Iterable[Claimed], bool], None],
    ) -> None:
        """`start` runs what was taken, and is told whether it waited for no place."""
        self._store = store
        self._options = options
        self._clock = clock
        self._worker = worker
        self._places = places
        self._start = start
        self._wake = asyncio.Event()
        self._pace = Pace(clock)
        self._trials = Trials(clock, self._pace.is_late)
        self._beside_at = float("-inf")
        self._others_wait = False
        """The last look found more than it took, or could take none."""

    # What others ask, and tell

    def room(self) -> int:
        """How many tasks ingest may claim right now."""
        return min(self.spare(), self._pace.next_piece())

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
        self._pace.claimed()

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
        if self._trials.written(keys):
            self.wake()

    # Claims

    async def run(self) -> None:
        """Claims until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._claim_loop(), name="claims")
            group.create_task(self._suspect_loop(), name="suspects")

    async def claim_once(self) -> int:
        """Takes what is runnable and has room, a piece at most; answers how many."""
        limit = min(self._free(), self._pace.next_piece())
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

    async def claim_beside(self) -> int:
        """Takes what does not wait for its turn, nor for a place; answers how many."""
        limit = 0 if self._trials.is_on else min(self._places().beside, self._pace.next_piece())
        if limit == 0:
            return 0
        self._beside_at = self._clock.seconds()
        claimed = await self._store.claim_beside(
            self._worker(), limit=limit, shared_claims=self._options.shared_claims
        )
        self._take(claimed, beside=True)
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
            self._trials.begin(suspects[0].key)
            self._wake_in(UNDISTURBED_SECONDS)
            self._take(suspects)
        return bool(suspects)

    def _take(self, claimed: Sequence[Claimed], *, beside: bool = False) -> None:
        if claimed:
            metrics.CLAIMS.labels("poll").inc(len(claimed))
            self._pace.claimed()
            self._start(claimed, beside)

    def _free(self) -> int:
        return 0 if self._trials.is_on else self._places().free

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
                if self._others_wait:
                    looks = 1
                    await self._look_beside()
            except StoreUnavailable as error:
                log.debug("claims wait for PostgreSQL", error=str(error))
                self._trials.met_trouble()
                wait = min(wait, RETRY_SECONDS)
            if self._clock.seconds() - began > SLOW_SECONDS:
                self._trials.met_trouble()
            await self._pace.catch_up()
            try:
                async with asyncio.timeout(wait):
                    await self._wake.wait()
                    looks = 1
            except TimeoutError:
                continue

    async def _look_beside(self) -> None:
        since = self._clock.seconds() - self._beside_at
        if since < BESIDE_SECONDS:
            self._wake_in(BESIDE_SECONDS - since)
        elif await self.claim_beside():
            self.wake()

    async def _suspect_loop(self) -> None:
        """Looks seldom while there are none; where there are, the next one follows a step."""
        wait = seldom = self._options.lease.total_seconds() / 2
        while True:
            await self._trials.trouble_over()
            try:
                wait = SUSPECT_SECONDS if await self.claim_suspect() else min(2 * wait, seldom)
            except StoreUnavailable as error:
                log.debug("suspects wait for PostgreSQL", error=str(error))
                self._trials.met_trouble()
            await asyncio.sleep(wait * random.uniform(0.8, 1.2))
