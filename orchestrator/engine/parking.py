"""Keeps parked tasks and PostgreSQL in step: pauses come in, wake-ups and states go out.

A pause is heard within a second. What is parked for an agent or a model that can be called again is
made runnable at once, whoever parked it; a wake-up that is lost costs until the task's next look.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta

from orchestrator.agents.target import Pause, TargetState
from orchestrator.agents.targets import Targets
from orchestrator.domain.errors import StoreRejected, StoreUnavailable
from orchestrator.domain.ids import WorkerId
from orchestrator.domain.json import JsonObject
from orchestrator.engine.clock import Clock
from orchestrator.engine.store import TargetStore
from orchestrator.telemetry import metrics
from orchestrator.telemetry.logs import get_logger

ROUND_SECONDS = 1.0
PAUSES_SECONDS = 15.0
"""How long a lost notice can hide a pause."""
WAKE_AT_ONCE = 1000

log = get_logger(__name__)


class Parking:
    """One per worker; `run` until cancelled."""

    def __init__(
        self,
        store: TargetStore,
        targets: Targets,
        *,
        clock: Clock,
        worker: Callable[[], WorkerId],
        woken: Callable[[], None],
    ) -> None:
        """`woken` is called when tasks became runnable."""
        self._store = store
        self._targets = targets
        self._clock = clock
        self._worker = worker
        self._woken = woken
        self._opened: set[str] = set()
        self._is_due = asyncio.Event()
        self._pauses_at = float("-inf")
        self._published: tuple[WorkerId, tuple[TargetState, ...]] | None = None
        targets.on_open = self._open

    def hear(self) -> None:
        """An operator may have paused or resumed something."""
        self._pauses_at = float("-inf")
        self._is_due.set()

    def rested(self, parked_for: Sequence[str]) -> None:
        """A task parked itself. What opened while it did so may have woken the others too early."""
        for target in parked_for:
            if self._targets.is_open(target):
                self._open(target)

    async def load(self) -> None:
        """Reads the pauses; nothing may be called before."""
        now = self._clock.seconds()
        rows = await self._store.pauses()
        self._targets.set_pauses({r.target: Pause(by=r.by, at=r.at, reason=r.reason) for r in rows})
        self._pauses_at = now

    async def run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(ROUND_SECONDS):
                    await self._is_due.wait()
            except TimeoutError:
                pass
            self._is_due.clear()
            try:
                await self.run_once()
            except StoreUnavailable as error:
                log.debug("pauses and parked tasks wait for PostgreSQL", error=str(error))
            except StoreRejected as error:
                # What is only told to operators ends no worker.
                log.warning("states of agents can't be written", error=str(error))

    async def run_once(self) -> None:
        """Looks once; asks PostgreSQL nothing where nothing changed."""
        if self._clock.seconds() - self._pauses_at >= PAUSES_SECONDS:
            await self.load()
        if self._opened:
            await self._wake_parked()
        await self._publish()

    def _open(self, target: str) -> None:
        self._opened.add(target)
        self._is_due.set()

    async def _wake_parked(self) -> None:
        # What opens from now on has to be looked at again: a task may have parked itself meanwhile.
        opened, self._opened = self._opened, set()
        woken = WAKE_AT_ONCE
        try:
            while woken == WAKE_AT_ONCE:
                woken = await self._store.wake_parked(sorted(opened), limit=WAKE_AT_ONCE)
                if woken:
                    self._woken()
        except StoreUnavailable:
            self._opened |= opened
            raise

    async def _publish(self) -> None:
        states = self._targets.states()
        for state in states:
            metrics.CALLS_IN_FLIGHT.labels(state.target).set(state.in_flight)
            metrics.RETRIES_LEFT.labels(state.target).set(state.retries_left)
        worker = self._worker()
        told = self._published[1] if self._published and self._published[0] == worker else ()
        known = {state.target: state for state in told}
        changed = [state for state in states if known.get(state.target) != state]
        if not changed:
            return
        await self._store.put_agent_states(
            worker, {state.target: self._told(state) for state in changed}
        )
        self._published = (worker, states)

    def _told(self, state: TargetState) -> JsonObject:
        return {
            **asdict(state),
            "breaker": state.breaker.value,
            "closed_until": self._time(state.closed_until),
            "last_error_at": self._time(state.last_error_at),
        }

    def _time(self, seconds: float | None) -> str | None:
        if seconds is None:
            return None
        at: datetime = self._clock.now() + timedelta(seconds=seconds - self._clock.seconds())
        return at.isoformat(timespec="seconds")
