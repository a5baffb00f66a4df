"""Theirs: a run that was claimed and whose worker died before it started kept its slot for ever."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from orchestrator.domain.ids import TaskKey, WorkerId
from orchestrator.store.ingest import Advance, Batch, Claimed
from orchestrator.store.loading import Loaded
from tests.model.intake import Taker
from tests.model.store import ModelStore
from tests.simulation.clock import passes
from tests.simulation.member import Member
from tests.simulation.run import PARTITIONS, Plan, Simulation
from tests.simulation.silence import unexpected_errors
from tests.simulation.weather import CALM

KILLS = 10_000
TASKS = 60
NOBODY = 99
MOMENTS = ("claimed", "loaded", "started")


class KillsAfterClaims(ModelStore):
    """Kills who claims: before it hears of it, before it has loaded, or as it starts."""

    victim: Member | None = None
    died: asyncio.Event
    kills = 0

    def claim(self, worker: WorkerId, *, limit: int, shared_claims: int) -> list[Claimed]:
        claimed = super().claim(worker, limit=limit, shared_claims=shared_claims)
        self._strike("claimed", is_there=bool(claimed))
        return claimed

    def load(self, worker: WorkerId, keys: Sequence[TaskKey]) -> list[Loaded]:
        loaded = super().load(worker, keys)
        self._strike("loaded", is_there=bool(loaded))
        if self.victim is not None and loaded:
            self.victim.process.call_later(0.001, self._strike, "started")
        return loaded

    def _strike(self, moment: str, *, is_there: bool = True) -> None:
        if self.victim is None or not is_there or MOMENTS[self.kills % 3] != moment:
            return
        self.victim.kill()
        self.victim = None
        self.kills += 1
        self.died.set()


class Repeated(Simulation):
    """One worker that dies after each of its claims, then one that lives."""

    async def _story(self) -> None:
        store = self.world.store
        assert isinstance(store, KillsAfterClaims)
        store.died = asyncio.Event()
        await passes(self.plan.climate.seconds)
        self._queue_all()
        self._readers = [NOBODY] * PARTITIONS
        while store.kills < KILLS:
            store.died.clear()
            # Now and then it comes back under another name, and its tasks wait for the lease.
            name = "w" if store.kills % 50 else f"w{store.kills}"
            store.victim = self._new_member(0, name)
            self.slots = [store.victim]
            await store.died.wait()
        self._readers = [0] * PARTITIONS
        self.slots = [self._new_member(0, "survivor")]
        await self._until_done()
        await self._stop_all()

    def _queue_all(self) -> None:
        """Into the queue, and to nobody yet."""
        taker = Taker(worker=WorkerId(0), room=0, expected_for=timedelta(hours=1), shared_claims=5)
        for partition, messages in enumerate(self.scene.partitions):
            advance = Advance(
                topic="tasks", partition=partition, expected=0, next_offset=len(messages)
            )
            batch = Batch(cluster_id="", advances=(advance,), messages=tuple(messages))
            self.world.intake.ingest(batch, taker)


def test_10000_kills_between_claim_and_start_leak_no_slot_and_the_queue_drains() -> None:
    plan = Plan(seed=1, tasks=TASKS, workers=1, climate=replace(CALM, seconds=2.0))
    simulation = Repeated(replace(plan, store=KillsAfterClaims))
    # It is not what the tasks do that kills: none of them is to be set aside for it.
    options = replace(simulation.scene.options, concurrency=3, max_claims=KILLS + 1)
    simulation.scene.options = options
    with unexpected_errors() as errors:
        report = simulation.run(errors)
    assert report.violations == ()
    assert report.statuses["completed"] > TASKS / 2
    assert sum(report.statuses.values()) == TASKS
