"""The agents as of now, from memory: loaded again after `invalidate`, or when they are old.

While nothing changes, `agents` returns the same object, so that what is derived from it (tool
schemas, prompts) can be kept by identity.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from orchestrator.domain.agent import Agent

Load = Callable[[], Awaitable[Sequence[Agent]]]


class CachedCatalogue:
    """A `Catalogue` over `load`, which returns the agents of all tenants.

    `max_age_seconds` bounds how long a lost notification can hide a change.
    """

    def __init__(
        self,
        load: Load,
        *,
        max_age_seconds: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load = load
        self._max_age_seconds = max_age_seconds
        self._clock = clock
        self._lock = asyncio.Lock()
        self._by_tenant: dict[str, tuple[Agent, ...]] = {}
        # Changes that we were told of, and the number of them that what is in memory includes.
        self._changes = 1
        self._included = 0
        self._loaded_at = 0.0

    def invalidate(self) -> None:
        """The next `agents` loads again; a load that is under way may have read too early."""
        self._changes += 1

    async def agents(self, tenant: str) -> tuple[Agent, ...]:
        """All agents of the tenant, by id; the same object until one of them changes.

        Raises what `load` raises; what was in memory then stays.
        """
        is_old = self._clock() - self._loaded_at > self._max_age_seconds
        # Once is enough: else everyone who comes during the load would ask for another.
        if is_old and self._included == self._changes:
            self.invalidate()
        if self._included < self._changes:
            await self._reload()
        return self._by_tenant.get(tenant, ())

    async def _reload(self) -> None:
        wanted = self._changes
        async with self._lock:
            # Who waited for the lock uses the load of the one before, if that began late enough.
            if self._included >= wanted:
                return
            included, loaded_at = self._changes, self._clock()
            self._keep(await self._load())
            self._included, self._loaded_at = included, loaded_at

    def _keep(self, agents: Sequence[Agent]) -> None:
        loaded: dict[str, list[Agent]] = {}
        for agent in sorted(agents, key=lambda a: a.id):
            loaded.setdefault(agent.tenant, []).append(agent)
        before = self._by_tenant
        self._by_tenant = {
            tenant: before[tenant] if before.get(tenant) == tuple(found) else tuple(found)
            for tenant, found in loaded.items()
        }
