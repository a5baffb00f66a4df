"""One run: tasks arrive, things go wrong, the weather clears, and everything is checked."""

import asyncio
import gc
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from orchestrator.domain.call import CallStatus
from orchestrator.domain.event import AGENT_RESULT, PAUSE, RESUME
from orchestrator.domain.step import CallFinished, EventApplied
from orchestrator.domain.task import TaskStatus
from orchestrator.store.ingest import NewEvent, NewTask, Origin
from tests.model.store import ModelStore
from tests.model.tables import TaskRow
from tests.simulation.checks import violations
from tests.simulation.clock import passes
from tests.simulation.member import OPTIONS, Member, Scene
from tests.simulation.peers import Agents
from tests.simulation.script import new_script
from tests.simulation.silence import unexpected_errors
from tests.simulation.weather import STORMY, Climate
from tests.simulation.world import World

PARTITIONS = 3
PATIENCE_SECONDS = 900.0
"""After the last fault every task has to be at its end within this."""
SETTLE_SECONDS = 15.0
"""Until each worker has compared its memory with the store once more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is simulated."""

    seed: int
    tasks: int = 100
    workers: int = 3
    climate: Climate = STORMY
    store: type[ModelStore] = ModelStore
    tells: bool = False
    """Keep the story of all that happened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    seed: int
    tasks: int
    statuses: Counter[str]
    faults: Counter[str]
    sends: int
    resent: int
    prompts_and_statements: int
    seconds: float
    """Simulated."""
    turns: int
    trace: int
    violations: tuple[str, ...]
    story: tuple[str, ...] = field(default=(), repr=False)


def simulate(plan: Plan) -> Report:
    """The same plan gives the same report, to the last send."""
    random.seed(plan.seed)  # the engine's jitter
    gc.disable()
    try:
        with unexpected_errors() as errors:
            return Simulation(plan).run(errors)
    finally:
        gc.enable()
        gc.collect()


class Simulation:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.world = World(plan.seed, plan.climate, store=plan.store)
        self.world.story = [] if plan.tells else None
        agents = Agents(self.world, publish=self._publish_event)
        spread = min(60.0, plan.climate.seconds / 2)
        scripts = [
            new_script(plan.seed, n, partitions=PARTITIONS, spread=spread)
            for n in range(plan.tasks)
        ]
        self.scene = Scene(
            self.world,
            agents,
            {s.task_id: s for s in scripts},
            [[] for _ in range(PARTITIONS)],
            publish=self._publish_event,
            options=OPTIONS,
            tell_others=self._tell_others,
        )
        for partition in range(PARTITIONS):
            self.world.tables.positions["tasks", partition] = 0
        for message in (m for s in scripts for m in s.messages):
            publish = self._publisher(message.partition, message.body)
            self.world.process.call_later(message.at, publish)
        self.slots: list[Member] = []
        self.others: list[Member] = []
        """Those that were replaced; some of them still live."""
        self._readers = list(range(PARTITIONS))
        self._names = plan.workers
        self._nudged: set[str] = set()
        self._successors: dict[Member, Member] = {}
        """Of those that were replaced while they were frozen."""

    def run(self, errors: list[str]) -> Report:
        world = self.world
        world.machine.run(world.process.create_task(self._story()))
        everyone = [*self.slots, *self.others]
        for what in (*violations(self.scene, self.slots), *errors):
            world.violated(what)
        for member in everyone:
            if not member.process.is_gone:
                world.violated(f"{member.name} left coroutines behind")
        sends = self.scene.agents.sends
        return Report(
            seed=self.plan.seed,
            tasks=len(world.tables.tasks),
            statuses=Counter(row.status.value for row in world.tables.tasks.values()),
            faults=Counter(world.weather.counts),
            sends=sum(sends.values()),
            resent=sum(sends.values()) - len(sends),
            prompts_and_statements=world.notes,
            seconds=world.machine.time - 1000.0,
            turns=world.machine.turns,
            trace=world.trace,
            violations=tuple(world.violations),
            story=tuple(world.story or ()),
        )

    async def _story(self) -> None:
        climate = self.plan.climate
        self.slots = [self._new_member(n, f"w{n}") for n in range(self.plan.workers)]
        blows = asyncio.create_task(self._blows(), name="blows")
        await passes(climate.seconds)
        blows.cancel()
        self._clear()
        await self._until_done()
        await self._stop_all()

    async def _stop_all(self) -> None:
        stops = [m.stop() for m in (*self.slots, *self.others) if not m.is_gone]
        for stop in stops:
            while not stop.done():
                await passes(0.1)
        await passes(0.1)

    def _clear(self) -> None:
        self.world.note("the weather clears")
        self.world.weather.clear()
        for member in (*self.slots, *self.others):
            self._thaw(member)
        self._supervise()

    def _supervise(self) -> None:
        """A process that ended is started again."""
        for slot, member in enumerate(self.slots):
            if member.is_gone or member.process.is_cut:
                self._replace(slot, self._free(member.name))

    async def _until_done(self) -> None:
        end = self.world.machine.time + PATIENCE_SECONDS
        while self.world.machine.time < end:
            await passes(2.0)
            rows = self.world.tables.tasks.values()
            if all(row.status.is_final for row in rows) and self._is_read():
                await passes(SETTLE_SECONDS)
                return
            self._supervise()
            for row in rows:
                self._help(row)
        for row in self.world.tables.tasks.values():
            if not row.status.is_final:
                self.world.violated(f"{row.task_id} is stuck: {row.status}, {row.reason}")

    def _is_read(self) -> bool:
        positions = self.world.tables.positions
        return all(positions["tasks", n] == len(m) for n, m in enumerate(self.scene.partitions))

    # Messages

    def _publisher(self, partition: int, body: NewTask | NewEvent) -> Callable[[], None]:
        return lambda: self._publish(partition, body)

    def _publish(self, partition: int, body: NewTask | NewEvent) -> None:
        log = self.scene.partitions[partition]
        origin = Origin(topic="tasks", partition=partition, offset=len(log))
        log.append(replace(body, origin=origin))
        for member in self.slots:
            member.arrived.set()

    def _publish_event(self, event: NewEvent) -> None:
        self._publish(int(event.task_id[1:]) % PARTITIONS, event)

    def _tell_others(self) -> None:
        for member in self.slots:
            if member.is_open and self.world.weather.random.random() < 0.7:
                member.process.call_later(0.01, member.worker.wake)
                member.process.call_later(0.01, member.worker.attend)

    # People

    def _help(self, row: TaskRow) -> None:
        """What a person does for a task that waits for one."""
        if row.status is TaskStatus.QUARANTINED:
            self.world.weather.count("task quarantined")
            self.world.intake.retry(row.task_id)
        if row.status is not TaskStatus.WAITING:
            return
        event = self._answer(row)
        if event is not None:
            said = f"{row.task_id} {row.seq} {event.event_type}"
            if said not in self._nudged:
                self._nudged.add(said)
                self._publish_event(event)

    def _answer(self, row: TaskRow) -> NewEvent | None:
        origin = Origin(topic="", partition=0, offset=0)
        bodies = [r.body for r in self.world.tables.journal(row.id)]
        pauses = [
            b.event_type
            for b in bodies
            if isinstance(b, EventApplied) and b.event_type in (PAUSE, RESUME)
        ]
        if pauses[-1:] == [PAUSE]:
            return NewEvent(origin=origin, task_id=row.task_id, event_type=RESUME, payload={})
        results = [b for b in bodies if isinstance(b, CallFinished)]
        final = {(b.step, b.call) for b in results if b.status.is_final}
        for body in results:
            # Where its agent is asked again, the person waits for what that brings.
            is_open = body.status is CallStatus.ACCEPTED and not (body.until or body.ask_at)
            if is_open and (body.step, body.call) not in final:
                return NewEvent(
                    origin=origin,
                    task_id=row.task_id,
                    event_type=AGENT_RESULT,
                    payload={"output": {"by_person": True}},
                    step=body.step,
                    call=body.call,
                )
        return None

    # Blows

    def _new_member(self, slot: int, name: str) -> Member:
        return Member(
            self.scene,
            name,
            assigned=lambda: [p for p, reader in enumerate(self._readers) if reader == slot],
        )

    def _replace(self, slot: int, name: str) -> None:
        self.others.append(self.slots[slot])
        self.slots[slot] = self._new_member(slot, name)

    def _next_name(self, name: str) -> str:
        return name if self.world.weather.random.random() < 0.6 else self._new_name()

    def _new_name(self) -> str:
        self._names += 1
        return f"w{self._names}"

    def _free(self, name: str) -> str:
        """Two that live under one name are a mistake of the operator's, and no part of this."""
        living = (m for m in (*self.slots, *self.others) if not (m.is_gone or m.process.is_cut))
        return self._new_name() if any(m.name == name for m in living) else name

    async def _blows(self) -> None:
        draw = self.world.weather.random
        while True:
            await passes(draw.expovariate(1 / self.plan.climate.seconds_between_blows))
            slot = draw.randrange(self.plan.workers)
            blow = draw.choice(
                (self._kill, self._kill, self._freeze, self._freeze_and_replace, self._outage,
                 self._restart, self._rebalance)
            )  # fmt: skip
            self.world.weather.count(blow.__name__.strip("_"))
            self.world.note(f"{blow.__name__} {slot}")
            blow(slot)

    def _kill(self, slot: int) -> None:
        member, draw = self.slots[slot], self.world.weather.random
        if member.process.is_cut:
            return
        member.kill()
        name = self._next_name(member.name)
        self.world.process.call_later(draw.uniform(0.1, 15), self._bring_back, slot, member, name)

    def _bring_back(self, slot: int, gone: Member, name: str) -> None:
        if self.slots[slot] is gone:
            self._replace(slot, self._free(name))

    def _bring_back_frozen(self, slot: int, member: Member) -> None:
        frozen = self.world.machine.time - member.process.frozen_at
        is_over = frozen >= self.scene.options.lease.total_seconds()
        if self.slots[slot] is member and member.is_open and member.process.is_frozen and is_over:
            self._replace(slot, member.name)
            self._successors[member] = self.slots[slot]

    def _thaw(self, member: Member) -> None:
        """Who bears its name has to be there: until then both would live under it."""
        successor = self._successors.get(member)
        if successor is None or successor.is_open:
            member.process.thaw()
        else:
            member.kill()

    def _freeze(self, slot: int) -> None:
        member, draw = self.slots[slot], self.world.weather.random
        member.process.freeze()
        self.world.process.call_later(draw.uniform(0.5, 25), self._thaw, member)

    def _freeze_and_replace(self, slot: int) -> None:
        """The name comes back elsewhere while its bearer is frozen for longer than a lease.

        Sooner it may not: it would still hold the lease when it thaws.
        """
        member, draw = self.slots[slot], self.world.weather.random
        member.process.freeze()
        after = self.scene.options.lease.total_seconds() + draw.uniform(0, 5)
        self.world.process.call_later(after, self._bring_back_frozen, slot, member)
        self.world.process.call_later(after + draw.uniform(0.1, 10), self._thaw, member)

    def _outage(self, _slot: int) -> None:
        weather = self.world.weather
        weather.store_is_down = True
        self.world.process.call_later(weather.random.uniform(0.5, 20), self._come_back)

    def _come_back(self) -> None:
        self.world.weather.store_is_down = False

    def _restart(self, slot: int) -> None:
        member = self.slots[slot]
        if member.process.is_cut or member.process.is_frozen:
            return
        member.stop()
        self.world.process.call_later(12.0, self._bring_back, slot, member, member.name)

    def _rebalance(self, _slot: int) -> None:
        self.world.weather.random.shuffle(self._readers)
        for member in self.slots:
            member.arrived.set()
