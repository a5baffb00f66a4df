"""The engine's store (`orchestrator.engine.store`) on PostgreSQL: its statements, bound to a pool.

It holds no state. What a method promises is said at the function that it calls.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from orchestrator.domain.event import InboxMessage
from orchestrator.domain.ids import TaskKey, WorkerId
from orchestrator.domain.json import JsonObject
from orchestrator.store import claims, loading, outbox, targets, upkeep, workers
from orchestrator.store.database import Database
from orchestrator.store.ingest import Claimed
from orchestrator.store.journal import Entry, Written, journal
from orchestrator.store.loading import Deferred, Loaded, Unreadable
from orchestrator.store.targets import PauseRow


class PostgresStore:
    """A statement a method."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # Tasks

    async def wake_due(self) -> timedelta | None:
        return await claims.wake_due(self._database)

    async def claim(
        self, worker: WorkerId, *, limit: int, shared_claims: int, weights: Mapping[str, float]
    ) -> list[Claimed]:
        return await claims.claim(
            self._database, worker, limit=limit, shared_claims=shared_claims, weights=weights
        )

    async def claim_beside(
        self, worker: WorkerId, *, limit: int, shared_claims: int
    ) -> list[Claimed]:
        return await claims.claim_beside(
            self._database, worker, limit=limit, shared_claims=shared_claims
        )

    async def claim_suspect(
        self, worker: WorkerId, *, shared_claims: int, max_claims: int
    ) -> list[Claimed]:
        return await claims.claim_suspect(
            self._database, worker, shared_claims=shared_claims, max_claims=max_claims
        )

    async def load(
        self, worker: WorkerId, keys: Sequence[TaskKey], *, max_bytes: int
    ) -> list[Loaded | Unreadable | Deferred]:
        return await loading.load(self._database, worker, keys, max_bytes=max_bytes)

    async def unread(self, key: TaskKey) -> tuple[tuple[InboxMessage, ...], int]:
        return await loading.unread(self._database, key)

    async def urgent(self, worker: WorkerId) -> list[TaskKey]:
        return await loading.urgent(self._database, worker)

    async def journal(self, entries: Sequence[Entry]) -> dict[TaskKey, Written]:
        return await journal(self._database, entries)

    async def release(
        self, worker: WorkerId, tasks: Sequence[Claimed], *, delay: timedelta | None
    ) -> int:
        return await claims.release(self._database, worker, tasks, delay=delay)

    async def outlived(self, tasks: Sequence[Claimed]) -> int:
        return await claims.outlived(self._database, tasks)

    async def owned(self, worker: WorkerId) -> list[Claimed]:
        return await claims.owned(self._database, worker)

    # Members

    async def register(self, name: str) -> WorkerId:
        return await workers.register(self._database, name)

    async def heartbeat(self, worker: WorkerId, *, tasks: int, room: int) -> datetime | None:
        return await workers.heartbeat(self._database.reserve, worker, tasks=tasks, room=room)

    async def has_namesake(self, name: str, worker: WorkerId) -> bool:
        return await workers.has_namesake(self._database, name, worker)

    async def leave(self, worker: WorkerId) -> None:
        await workers.leave(self._database, worker)

    # Upkeep

    async def reap(self, *, lease: timedelta, until: datetime) -> int:
        return await claims.reap(self._database, lease=lease, until=until)

    async def forget_dead(self, *, lease: timedelta, until: datetime) -> list[str]:
        return await workers.forget_dead(self._database, lease=lease, until=until)

    async def quarantine(self, *, max_claims: int, dead_letters: str) -> int:
        return await upkeep.quarantine(
            self._database, max_claims=max_claims, dead_letters=dead_letters
        )

    async def expire_expected(self, *, dead_letters: str) -> int:
        return await upkeep.expire_expected(self._database, dead_letters=dead_letters)

    async def count_runnable(self) -> int:
        return await upkeep.count_runnable(self._database)

    async def backlog(self) -> tuple[int, float]:
        return await outbox.backlog(self._database)

    # Who may be called

    async def pauses(self) -> list[PauseRow]:
        return await targets.pauses(self._database)

    async def wake_parked(self, names: Sequence[str], *, limit: int) -> int:
        return await targets.wake_parked(self._database, names, limit=limit)

    async def put_agent_states(self, worker: WorkerId, states: Mapping[str, JsonObject]) -> None:
        await targets.put_states(self._database, worker, states)
