"""Planner and agents of the simulated world: they do what goes wrong, and watch what is sent.

Agents keep what they did, so that each effect and each send can be held against the journal.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping

from orchestrator.agents.agent import CallRequest
from orchestrator.domain.call import CallResult
from orchestrator.domain.decision import Turn
from orchestrator.domain.errors import ModelFailed
from orchestrator.domain.event import AGENT_RESULT
from orchestrator.domain.fault import Fault
from orchestrator.domain.ids import Epoch, TaskId
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.step import CallFinished, Decided
from orchestrator.store.ingest import NewEvent, Origin
from tests.fakes.scripted_caller import ACCEPTED, failure, key_of, success
from tests.simulation.clock import Process
from tests.simulation.script import Script, decisions
from tests.simulation.world import World

NOT_SENT = failure("not sent: the lease is over", was_sent=False)


class Agents:
    """All agents of all workers; it is told of each request that really reaches one."""

    def __init__(self, world: World, *, publish: Callable[[NewEvent], None]) -> None:
        self._world = world
        self._publish = publish
        self.sends: Counter[str] = Counter()
        self.effects: Counter[str] = Counter()
        self.epochs: dict[str, Epoch] = defaultdict(lambda: Epoch(0))
        self._done: dict[str, CallResult] = {}
        """By key: an idempotent agent answers it again, and every agent when it is asked."""

    def received(self, request: CallRequest) -> tuple[CallResult, float]:
        """What the agent makes of it: its answer, and after how many seconds it comes."""
        key = key_of(request)
        self._watch(request, key)
        is_once = request.agent.effects == "at_most_once"
        if key in self._done and not is_once:
            return self._done[key], 0.01
        weather, climate = self._world.weather, self._world.weather.climate
        seconds = weather.random.choice((0.01, 0.05, 0.3, 2.0))
        if weather.strikes(climate.agent_trouble):
            return self._trouble(request, key, seconds)
        self._take_effect(request, key)
        return self._done[key], seconds

    def _trouble(self, request: CallRequest, key: str, seconds: float) -> tuple[CallResult, float]:
        kind = self._world.weather.random.choice(
            ("busy", "rejects", "answer lost", "hangs", "late", "later")
        )
        self._world.weather.count(f"agent {kind}")
        timeout = request.timeout_seconds
        match kind:
            case "busy":
                return failure(
                    "503", fault=Fault.UNAVAILABLE, retry_after_seconds=1.0 if seconds > 1 else None
                ), seconds
            case "rejects":
                return failure("422", retryable=False), seconds
            case "answer lost":
                self._take_effect(request, key)
                return failure("reset", fault=Fault.FAILED), seconds
            case "hangs":
                return failure("timed out", fault=Fault.FAILED), timeout
            case "late":
                self._world.process.call_later(timeout + 3, self._take_effect, request, key)
                return failure("timed out", fault=Fault.FAILED), timeout
            case _:
                self._world.process.call_later(seconds * 5, self._finish_later, request, key)
                return ACCEPTED, seconds

    def _take_effect(self, request: CallRequest, key: str) -> None:
        if key in self._done and request.agent.effects != "at_most_once":
            return
        self._world.note(f"effect {key}")
        self.effects[key] += 1
        fields = dict.fromkeys(request.agent.output_fields, key)
        self._done[key] = success(**fields)

    def _finish_later(self, request: CallRequest, key: str) -> None:
        self._take_effect(request, key)
        result = self._done[key]
        event = NewEvent(
            origin=Origin(topic="", partition=0, offset=0),
            task_id=request.task_id,
            event_type=AGENT_RESULT,
            payload={"status": result.status.value, "output": result.output},
            step=request.step,
            call=request.call,
        )
        for _ in range(self._world.weather.random.choice((1, 1, 2))):
            self._publish(event)

    def asked(self, request: CallRequest) -> CallResult | None:
        """What became of an earlier call."""
        if request.agent.status_url is None:
            return failure("it has no status_url to ask", retryable=False, is_unsure=True)
        return self._done.get(key_of(request))

    def _watch(self, request: CallRequest, key: str) -> None:
        world = self._world
        world.note(f"send {key} {request.epoch}")
        self.sends[key] += 1
        if request.agent.effects == "at_most_once" and self.sends[key] > 1:
            world.violated(f"{key} of at_most_once agent {request.agent.id} was sent again")
        if request.epoch < self.epochs[key]:
            world.violated(f"{key} was sent by an older owner after a newer one")
        self.epochs[key] = request.epoch
        task = world.tables.by_task_id[request.task_id]
        for row in world.tables.steps[task].values():
            body = row.body
            if not isinstance(body, CallFinished) or not body.status.is_final:
                continue
            if (body.step, body.call) == (request.step, request.call):
                world.violated(f"{key} was sent again after its result was journaled")


class SimulatedCaller:
    """One per process: the way to the agents, with the fence that the HTTP caller has."""

    def __init__(
        self, world: World, process: Process, agents: Agents, *, may_send: Callable[[], bool]
    ) -> None:
        self._world = world
        self._process = process
        self._agents = agents
        self._may_send = may_send

    async def call(self, request: CallRequest) -> CallResult:
        await self._connect()
        if not self._may_send():
            return NOT_SENT
        if self._world.weather.strikes(self._world.weather.climate.agent_trouble / 5):
            self._world.weather.count("agent refuses")
            return failure("connection refused", was_sent=False, fault=Fault.UNAVAILABLE)
        result, seconds = self._agents.received(request)
        return await self._answer(result, seconds)

    async def status(self, request: CallRequest) -> CallResult | None:
        await self._connect()
        if not self._may_send():
            return NOT_SENT
        if self._world.weather.strikes(self._world.weather.climate.agent_trouble):
            self._world.weather.count("agent does not say")
            return failure("timed out")
        return self._agents.asked(request)

    async def cancel(self, request: CallRequest) -> bool:
        await self._connect()
        if not self._may_send() or self._world.weather.strikes(
            self._world.weather.climate.agent_trouble
        ):
            return False
        self._world.note(f"cancel {key_of(request)}")
        return True

    async def _connect(self) -> None:
        connected = self._process.create_future()
        self._world.process.call_later(0.001, _resolve, connected, None)
        await connected

    async def _answer(self, result: CallResult, seconds: float) -> CallResult:
        answered = self._process.create_future()
        self._world.process.call_later(seconds, _resolve, answered, result)
        found: CallResult = await answered
        return found


class SimulatedPlanner:
    """One per process: says what the task's script says, sometimes after a failure."""

    def __init__(
        self,
        world: World,
        process: Process,
        scripts: Mapping[TaskId, Script],
        *,
        publish: Callable[[NewEvent], None],
        may_send: Callable[[], bool],
    ) -> None:
        """`publish` sends an event to the service."""
        self._world = world
        self._process = process
        self._scripts = scripts
        self._publish = publish
        self._may_send = may_send

    async def plan(self, snapshot: Snapshot) -> Turn:
        if not self._may_send():
            raise ModelFailed("not sent: the lease is over", retryable=True)
        self._watch(snapshot, decisions(snapshot))
        weather, script = self._world.weather, self._scripts[snapshot.task.task_id]
        turn = script.turn(snapshot, now=self._world.now())
        self._send_awaited(script.awaited(snapshot))
        seconds, error = weather.random.choice((0.05, 0.2, 1.0)), None
        if weather.strikes(weather.climate.model_trouble):
            weather.count("model fails")
            seconds = weather.random.choice((0.1, 6.0, 12.0))
            error = ModelFailed("429", retryable=weather.random.random() < 0.95)
        answered = self._process.create_future()
        self._world.process.call_later(seconds, _resolve, answered, error)
        failed = await answered
        if failed is not None:
            raise failed
        return turn

    def _send_awaited(self, event: NewEvent | None) -> None:
        """What the task is about to wait for comes before, while and after it comes to rest."""
        if event is not None:
            seconds = self._world.weather.random.choice((0.01, 0.06, 0.21, 1.01, 5.0))
            self._world.process.call_later(seconds, self._publish, event)

    def _watch(self, snapshot: Snapshot, turn: int) -> None:
        world = self._world
        world.note(f"ask {snapshot.task.task_id} {turn}")
        rows = world.tables.steps[snapshot.task.key].values()
        journaled = sum(isinstance(row.body, Decided) for row in rows)
        if journaled > turn:
            world.violated(
                f"turn {turn} of {snapshot.task.task_id} was asked for again: "
                f"{journaled} are journaled"
            )


def _resolve(future: "asyncio.Future[object]", result: object) -> None:
    if not future.done():
        future.set_result(result)
