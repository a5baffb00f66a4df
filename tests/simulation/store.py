"""The engine's store as a simulated worker sees it: the model, behind a network that fails."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from orchestrator.domain.event import InboxMessage
from orchestrator.domain.ids import TaskKey, WorkerId
from orchestrator.domain.json import JsonObject
from orchestrator.store.ingest import Batch, Claimed, Ingested
from orchestrator.store.journal import Entry, Written
from orchestrator.store.loading import Deferred, Loaded, Unreadable
from orchestrator.store.targets import PauseRow
from tests.model.intake import Taker
from tests.simulation.clock import Process
from tests.simulation.world import World

PIECE_TASKS = 6
"""So many are loaded at once: the others do not fit."""


class SimulatedStore:
    """One per process; what it does is `orchestrator.engine.store.Store`."""

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process
        self._model = world.store

    async def wake_due(self) -> timedelta | None:
        return await self._world.ask(self._process, "wake due", self._model.wake_due)

    async def claim(
        self, worker: WorkerId, *, limit: int, shared_claims: int, weights: Mapping[str, float]
    ) -> list[Claimed]:
        return await self._world.ask(
            self._process,
            f"claim {limit}",
            lambda: self._model.claim(worker, limit=limit, shared_claims=shared_claims),
        )

    async def claim_beside(
        self, worker: WorkerId, *, limit: int, shared_claims: int
    ) -> list[Claimed]:
        return await self._world.ask(
            self._process,
            f"claim {limit} beside",
            lambda: self._model.claim_beside(worker, limit=limit, shared_claims=shared_claims),
        )

    async def claim_suspect(
        self, worker: WorkerId, *, shared_claims: int, max_claims: int
    ) -> list[Claimed]:
        return await self._world.ask(
            self._process,
            "claim a suspect",
            lambda: self._model.claim_suspect(
                worker, shared_claims=shared_claims, max_claims=max_claims
            ),
        )

    async def load(
        self, worker: WorkerId, keys: Sequence[TaskKey], *, max_bytes: int
    ) -> list[Loaded | Unreadable | Deferred]:
        """A task of the model is never large: a number of them stands for their bytes."""
        assert max_bytes > 0
        return await self._world.ask(
            self._process, f"load {[*keys]}", lambda: self._piece(worker, keys)
        )

    def _piece(
        self, worker: WorkerId, keys: Sequence[TaskKey]
    ) -> list[Loaded | Unreadable | Deferred]:
        found = self._model.load(worker, sorted(keys))
        if len(found) > PIECE_TASKS:
            self._world.weather.count("load in pieces")
        deferred = [Deferred(key=task.snapshot.task.key) for task in found[PIECE_TASKS:]]
        return [*found[:PIECE_TASKS], *deferred]

    async def unread(self, key: TaskKey) -> tuple[tuple[InboxMessage, ...], int]:
        return await self._world.ask(
            self._process, f"unread {key}", lambda: self._model.unread(key)
        )

    async def journal(self, entries: Sequence[Entry]) -> dict[TaskKey, Written]:
        what = [(e.key, e.epoch, e.seq, e.rest.status.value if e.rest else "") for e in entries]
        return await self._world.ask(
            self._process, f"journal {what}", lambda: self._model.journal(entries)
        )

    async def urgent(self, worker: WorkerId) -> list[TaskKey]:
        return await self._world.ask(self._process, "urgent", lambda: self._model.urgent(worker))

    async def release(
        self, worker: WorkerId, tasks: Sequence[Claimed], *, delay: timedelta | None
    ) -> int:
        return await self._world.ask(
            self._process,
            f"release {[(t.key, t.epoch) for t in tasks]}",
            lambda: self._model.release(worker, tasks, delay=delay),
        )

    async def outlived(self, tasks: Sequence[Claimed]) -> int:
        return await self._world.ask(
            self._process,
            f"outlived {[(t.key, t.epoch) for t in tasks]}",
            lambda: self._model.outlived(tasks),
        )

    async def owned(self, worker: WorkerId) -> list[Claimed]:
        return await self._world.ask(self._process, "owned", lambda: self._model.owned(worker))

    async def register(self, name: str) -> WorkerId:
        return await self._world.ask(
            self._process, f"register {name}", lambda: self._model.register(name)
        )

    async def heartbeat(self, worker: WorkerId, *, tasks: int, room: int) -> datetime | None:
        return await self._world.ask(
            self._process, "heartbeat", lambda: self._model.heartbeat(worker)
        )

    async def has_namesake(self, name: str, worker: WorkerId) -> bool:
        return await self._world.ask(
            self._process, "namesake", lambda: self._model.has_namesake(name, worker)
        )

    async def leave(self, worker: WorkerId) -> None:
        await self._world.ask(self._process, "leave", lambda: self._model.leave(worker))

    async def reap(self, *, lease: timedelta, until: datetime) -> int:
        return await self._world.ask(
            self._process, "reap", lambda: self._model.reap(lease=lease, until=until)
        )

    async def forget_dead(self, *, lease: timedelta, until: datetime) -> list[str]:
        return await self._world.ask(
            self._process, "forget", lambda: self._model.forget_dead(lease=lease, until=until)
        )

    async def quarantine(self, *, max_claims: int, dead_letters: str) -> int:
        return await self._world.ask(
            self._process,
            "quarantine",
            lambda: self._model.quarantine(max_claims=max_claims, dead_letters=dead_letters),
        )

    async def expire_expected(self, *, dead_letters: str) -> int:
        return await self._world.ask(
            self._process,
            "expire",
            lambda: self._model.expire_expected(dead_letters=dead_letters),
        )

    async def count_runnable(self) -> int:
        return self._model.count_runnable()

    async def backlog(self) -> tuple[int, float]:
        return self._model.backlog()

    async def pauses(self) -> list[PauseRow]:
        return await self._world.ask(self._process, "pauses", list)

    async def wake_parked(self, names: Sequence[str], *, limit: int) -> int:
        return await self._world.ask(
            self._process,
            f"wake parked {[*names]}",
            lambda: self._model.wake_parked(names, limit=limit),
        )

    async def put_agent_states(self, worker: WorkerId, states: Mapping[str, JsonObject]) -> None:
        await self._world.ask(self._process, f"states {[*states]}", lambda: None)

    # What intake asks, which is not the engine's.

    async def ingest(self, batch: Batch, taker: Taker) -> Ingested:
        return await self._world.ask(
            self._process,
            f"ingest {[a.next_offset for a in batch.advances]}",
            lambda: self._world.intake.ingest(batch, taker),
        )

    async def position(self, topic: str, partition: int) -> int:
        return await self._world.ask(
            self._process,
            "position",
            lambda: self._world.tables.positions[topic, partition],
        )
