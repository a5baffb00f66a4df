"""A simulated worker process: the real engine, and intake that reads its partitions."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta

from orchestrator.domain.agent import Agent
from orchestrator.domain.errors import StoreUnavailable
from orchestrator.domain.ids import TaskId
from orchestrator.domain.retry import RetryPolicy
from orchestrator.engine.clock import Clock
from orchestrator.engine.membership import NameTaken
from orchestrator.engine.options import EngineOptions
from orchestrator.engine.worker import Outside, Worker
from orchestrator.store.ingest import Advance, Batch, NewEvent, NewTask
from tests.model.intake import Taker
from tests.simulation.clock import passes
from tests.simulation.peers import Agents, SimulatedCaller, SimulatedPlanner
from tests.simulation.script import AGENTS, Script
from tests.simulation.store import SimulatedStore
from tests.simulation.world import World

OPTIONS = EngineOptions(
    worker_name="",
    concurrency=40,
    grace=timedelta(seconds=3),
    async_result_timeout=timedelta(seconds=40),
    agent_retry=RetryPolicy(max_attempts=5, base_seconds=0.5, cap_seconds=4.0),
    model_retry=RetryPolicy(max_attempts=8, base_seconds=0.5, cap_seconds=4.0),
)
BATCH = 20


@dataclass(slots=True)
class Scene:
    """What members share beside the world."""

    world: World
    agents: Agents
    scripts: dict[TaskId, Script]
    partitions: list[list[NewTask | NewEvent]]
    """The messages so far, as Kafka keeps them."""
    publish: Callable[[NewEvent], None]
    options: EngineOptions = OPTIONS
    lives: int = 0
    tell_others: Callable[[], None] = lambda: None
    """Notices: somebody may have something to do."""


class Member:
    """One life of a worker process."""

    def __init__(self, scene: Scene, name: str, *, assigned: Callable[[], Sequence[int]]) -> None:
        """`assigned` are the partitions that it reads at this moment."""
        self.name = name
        scene.lives += 1
        self.process = scene.world.machine.process(f"{name}.{scene.lives}")
        self.arrived = asyncio.Event()
        self.is_open = False
        self.was_taken_over = False
        """Another process took its name: it ended by itself."""
        self._scene = scene
        self._assigned = assigned
        self._positions: dict[int, int] = {}
        self._is_stopping = False
        self.store = SimulatedStore(scene.world, self.process)
        self.worker = self._new_worker()
        self.main = self.process.create_task(self._main(), name=f"main {name}")

    def _new_worker(self) -> Worker:
        scene, process = self._scene, self.process
        held: list[Worker] = []

        def may_send() -> bool:
            return held[0].lease.is_held()

        async def agents(_tenant: str) -> Sequence[Agent]:
            return AGENTS

        outside = Outside(
            planner=SimulatedPlanner(
                scene.world, process, scene.scripts, publish=scene.publish, may_send=may_send
            ),
            caller=SimulatedCaller(scene.world, process, scene.agents, may_send=may_send),
            agents=agents,
            journaled=lambda: None,
            left_ready=lambda: None,
            clock=Clock(seconds=process.time, cpu_seconds=lambda: 0.0),
        )
        options = replace(scene.options, worker_name=self.name)
        held.append(Worker(self.store, options, outside))
        return held[0]

    @property
    def is_gone(self) -> bool:
        return self.main.done()

    def kill(self) -> None:
        self._scene.world.note(f"{self.process.name} killed")
        self.process.kill()

    async def _main(self) -> None:
        try:
            await self._open()
            async with asyncio.TaskGroup() as group:
                group.create_task(self.worker.run(), name="worker")
                group.create_task(self._intake(), name="intake")
        except* NameTaken:
            self.was_taken_over = True
            self._scene.world.note(f"{self.process.name} ends: another has its name")

    async def _open(self) -> None:
        while True:
            try:
                await self.worker.open()
            except StoreUnavailable:
                await passes(0.5)
                continue
            self.is_open = True
            return

    def stop(self) -> "asyncio.Task[None]":
        """Ends it as a signal does."""
        return self.process.create_task(self._stop(), name=f"stop {self.name}")

    async def _stop(self) -> None:
        self._is_stopping = True
        if self.is_open:
            await self.worker.drain(self._scene.options.grace)
            with suppress(StoreUnavailable):  # then the others find out
                await self.worker.close()
        self.main.cancel()

    # Intake

    async def _intake(self) -> None:
        while not self._is_stopping:
            self.arrived.clear()
            try:
                for partition in self._assigned():
                    await self._take_in(partition)
            except StoreUnavailable:
                self._positions.clear()
                await passes(0.3)
                continue
            try:
                async with asyncio.timeout(2.0):
                    await self.arrived.wait()
            except TimeoutError:
                continue

    async def _take_in(self, partition: int) -> None:
        if partition not in self._positions:
            self._positions[partition] = await self.store.position("tasks", partition)
        while True:
            begin = self._positions[partition]
            messages = self._scene.partitions[partition][begin : begin + BATCH]
            if not messages or self.worker.is_overloaded:
                return
            advance = Advance(
                topic="tasks",
                partition=partition,
                expected=begin,
                next_offset=begin + len(messages),
            )
            batch = Batch(cluster_id="", advances=(advance,), messages=tuple(messages))
            done = await self.store.ingest(batch, self._taker())
            if not done.moved:
                del self._positions[partition]  # somebody else reads it
                return
            self._positions[partition] = advance.next_offset
            self.worker.ingested(done)
            if done.left_ready or done.woken:
                self._scene.tell_others()

    def _taker(self) -> Taker:
        return Taker(
            worker=self.worker.id,
            room=self.worker.room(),
            expected_for=timedelta(hours=1),
            shared_claims=self._scene.options.shared_claims,
        )
