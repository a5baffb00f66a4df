"""The catalogue's memory: the same object until something changes, one load for many who ask."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from orchestrator.agents.catalogue import CachedCatalogue
from orchestrator.domain.agent import Agent
from orchestrator.domain.errors import StoreUnavailable
from orchestrator.domain.ids import AgentId
from tests.fakes.callers import CRM

ACCOUNTS = replace(CRM, id=AgentId("accounts"))


class Shelf:
    """Where the catalogue loads from; holds a load while `open` is not set."""

    def __init__(self, *agents: Agent) -> None:
        self.agents = list(agents)
        self.loads = 0
        self.open = asyncio.Event()
        self.open.set()
        self.asked = asyncio.Event()
        self.error: Exception | None = None

    async def load(self) -> Sequence[Agent]:
        self.loads += 1
        self.asked.set()
        found = list(self.agents)
        await self.open.wait()
        if self.error:
            raise self.error
        return found


async def test_agents_come_by_id_and_tenant() -> None:
    shelf = Shelf(CRM, ACCOUNTS, replace(CRM, tenant="acme"))
    catalogue = CachedCatalogue(shelf.load)
    assert [agent.id for agent in await catalogue.agents("default")] == ["accounts", "crm"]
    assert [agent.tenant for agent in await catalogue.agents("acme")] == ["acme"]
    assert await catalogue.agents("nobody") == ()
    assert shelf.loads == 1


async def test_the_same_object_is_returned_while_nothing_changed() -> None:
    shelf = Shelf(CRM)
    catalogue = CachedCatalogue(shelf.load)
    before = await catalogue.agents("default")
    catalogue.invalidate()
    assert await catalogue.agents("default") is before
    shelf.agents = [replace(CRM, name="Other")]
    catalogue.invalidate()
    assert (await catalogue.agents("default"))[0].name == "Other"


async def test_a_change_is_seen_at_the_next_question() -> None:
    shelf = Shelf(CRM)
    catalogue = CachedCatalogue(shelf.load)
    await catalogue.agents("default")
    shelf.agents = []
    catalogue.invalidate()
    assert await catalogue.agents("default") == ()


async def test_many_who_ask_at_once_share_one_load() -> None:
    shelf = Shelf(CRM)
    catalogue = CachedCatalogue(shelf.load)
    shelf.open.clear()
    asked = asyncio.gather(*(catalogue.agents("default") for _ in range(20)))
    await shelf.asked.wait()
    shelf.open.set()
    found = await asked
    assert (shelf.loads, len({id(agents) for agents in found})) == (1, 1)


async def test_a_change_during_a_load_is_not_missed() -> None:
    shelf = Shelf(CRM)
    catalogue = CachedCatalogue(shelf.load)
    shelf.open.clear()
    first = asyncio.create_task(catalogue.agents("default"))
    await shelf.asked.wait()
    shelf.agents = [ACCOUNTS]
    catalogue.invalidate()
    shelf.open.set()
    await first
    assert await catalogue.agents("default") == (ACCOUNTS,)


async def test_a_lost_notification_hides_a_change_only_for_a_while() -> None:
    now = 0.0
    shelf = Shelf(CRM)
    catalogue = CachedCatalogue(shelf.load, max_age_seconds=30, clock=lambda: now)
    await catalogue.agents("default")
    shelf.agents = [ACCOUNTS]
    assert await catalogue.agents("default") == (CRM,)
    now = 31.0
    found = await asyncio.gather(*(catalogue.agents("default") for _ in range(5)))
    assert (found[0], shelf.loads) == ((ACCOUNTS,), 2)


async def test_a_failed_load_is_tried_again_at_the_next_question() -> None:
    shelf = Shelf(CRM)
    catalogue = CachedCatalogue(shelf.load)
    shelf.error = StoreUnavailable("down")
    with pytest.raises(StoreUnavailable):
        await catalogue.agents("default")
    shelf.error = None
    assert await catalogue.agents("default") == (CRM,)
