"""The seam between the engine and where tasks are kept: what a worker asks of it, and nothing else.

`orchestrator.store.postgres` is the real one. Each method is one transaction. Any of them may raise
`StoreUnavailable`; whether it took effect is then unknown, and asking again must be harmless.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from orchestrator.domain.event import InboxMessage
from orchestrator.domain.ids import TaskKey, WorkerId
from orchestrator.domain.json import JsonObject
from orchestrator.store.ingest import Claimed
from orchestrator.store.journal import Entry, Written
from orchestrator.store.loading import Deferred, Loaded, Unreadable
from orchestrator.store.targets import PauseRow


class TaskStore(Protocol):
    """Who runs which task, and what becomes of it."""

    async def wake_due(self) -> timedelta | None: ...

    async def claim(
        self, worker: WorkerId, *, limit: int, shared_claims: int, weights: Mapping[str, float]
    ) -> list[Claimed]: ...

    async def claim_beside(
        self, worker: WorkerId, *, limit: int, shared_claims: int
    ) -> list[Claimed]: ...

    async def claim_suspect(
        self, worker: WorkerId, *, shared_claims: int, max_claims: int
    ) -> list[Claimed]: ...

    async def load(
        self, worker: WorkerId, keys: Sequence[TaskKey], *, max_bytes: int
    ) -> list[Loaded | Unreadable | Deferred]: ...

    async def unread(self, key: TaskKey) -> tuple[tuple[InboxMessage, ...], int]: ...

    async def urgent(self, worker: WorkerId) -> list[TaskKey]: ...

    async def journal(self, entries: Sequence[Entry]) -> dict[TaskKey, Written]: ...

    async def release(
        self, worker: WorkerId, tasks: Sequence[Claimed], *, delay: timedelta | None
    ) -> int: ...

    async def outlived(self, tasks: Sequence[Claimed]) -> int: ...

    async def owned(self, worker: WorkerId) -> list[Claimed]: ...


class MemberStore(Protocol):
    """Which workers live."""

    async def register(self, name: str) -> WorkerId: ...

    async def heartbeat(self, worker: WorkerId, *, tasks: int, room: int) -> datetime | None: ...

    async def has_namesake(self, name: str, worker: WorkerId) -> bool: ...

    async def leave(self, worker: WorkerId) -> None: ...


class UpkeepStore(Protocol):
    """What any worker does for all, and what it counts for the metrics."""

    async def reap(self, *, lease: timedelta, until: datetime) -> int: ...

    async def forget_dead(self, *, lease: timedelta, until: datetime) -> list[str]: ...

    async def quarantine(self, *, max_claims: int, dead_letters: str) -> int: ...

    async def expire_expected(self, *, dead_letters: str) -> int: ...

    async def count_runnable(self) -> int: ...

    async def backlog(self) -> tuple[int, float]: ...


class TargetStore(Protocol):
    """Who may be called: operators' pauses, and what waits for them to end."""

    async def pauses(self) -> list[PauseRow]: ...

    async def wake_parked(self, names: Sequence[str], *, limit: int) -> int: ...

    async def put_agent_states(
        self, worker: WorkerId, states: Mapping[str, JsonObject]
    ) -> None: ...


class Store(TaskStore, MemberStore, UpkeepStore, TargetStore, Protocol):
    """All that one worker needs."""
