"""Services to break: two agents of which the second needs what the first one adds."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from chaos.fleet import ForgeLine, running_forge
from tests.fakes.agent import Behaviour, FakeAgent, ok
from tests.fakes.bus import until
from tests.fakes.invariants import check_all, check_live, total
from tests.fakes.llm import FakeLlm
from tests.fakes.observer import Observer
from tests.fakes.worker_process import WorkerProcess
from tests.fixtures.servers import KafkaServer, PostgresServer
from tests.fixtures.service import Service, new_service

WORDS = "Register the customer ACME and open an account"
FIELDS = ("customer_id", "account_number")
DELAY_SECONDS = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Office:
    """What a crash test breaks; its workers have short leases."""

    service: Service
    crm: FakeAgent
    accounts: FakeAgent

    @property
    def llm(self) -> FakeLlm:
        return self.service.llm

    @property
    def observer(self) -> Observer:
        return self.service.observer

    def worker(self, name: str, **settings: object) -> WorkerProcess:
        return self.service.worker(name, **{"lease_seconds": 2, **settings})

    async def publish(self, count: int) -> list[str]:
        """So many tasks of two calls each; their ids."""
        tasks = [f"t{number}" for number in range(count)]
        await asyncio.gather(*(self.observer.task(task, WORDS, *FIELDS) for task in tasks))
        return tasks

    async def progress(self, count: int, *, seconds: float = 40) -> None:
        """Returns when so many tasks are completed."""

        async def enough() -> bool:
            statuses = await self.observer.statuses()
            return sum(status == "completed" for status in statuses.values()) >= count

        await until(enough, seconds=seconds, what=f"{count} completed tasks")

    async def check(self, *tasks: str, seconds: float = 60) -> None:
        """All of them get completed and told, and everything holds that has to hold."""
        await self.observer.completed(*tasks, seconds=seconds)
        for task in tasks:
            await self.observer.told(task, "task.completed", seconds=seconds)
        await check_all(
            self.observer,
            prompts=self.llm.prompts,
            effects=total(self.crm.effects, self.accounts.effects),
            epochs={**self.crm.epochs, **self.accounts.epochs},
        )
        await check_live(self.service.place.database_url)


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def forge() -> AsyncIterator[ForgeLine]:
    """Tests that break workers start many: each would import for seconds."""
    async with running_forge() as forge:
        yield forge


@pytest_asyncio.fixture(loop_scope="session")
async def service(
    kafka: KafkaServer,
    postgres: PostgresServer,
    database_template: str,
    tmp_path: Path,
    forge: ForgeLine,
) -> AsyncIterator[Service]:
    """Of the test's own, without any worker."""
    async with new_service(
        kafka, postgres, template=database_template, folder=tmp_path, forge=forge
    ) as service:
        yield service


@pytest_asyncio.fixture(loop_scope="session")
async def office(service: Service) -> Office:
    """Of the test's own."""
    return await furnished(service)


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def shared_office(
    kafka: KafkaServer,
    postgres: PostgresServer,
    database_template: str,
    tmp_path_factory: pytest.TempPathFactory,
    forge: ForgeLine,
) -> AsyncIterator[Office]:
    """Broken once, for all tests of a file that look at what came of it."""
    folder = tmp_path_factory.mktemp("shared")
    async with new_service(
        kafka, postgres, template=database_template, folder=folder, forge=forge
    ) as service:
        yield await furnished(service)


async def furnished(service: Service) -> Office:
    customer, account = {"customer_id": "C-1"}, {"account_number": "A-1"}
    return Office(
        service=service,
        crm=await service.agent("crm", needs=["name"], adds=customer, default=slow(customer)),
        accounts=await service.agent(
            "accounts", needs=["customer_id"], adds=account, default=slow(account)
        ),
    )


def held(output: dict[str, str]) -> Behaviour:
    """The effect is done at once, the answer comes to nobody but who asks again."""
    return Behaviour(kind="held", body=ok(output).body)


def slow(output: dict[str, str], *, seconds: float = DELAY_SECONDS) -> Behaviour:
    """The effect is done at once, the answer comes later."""
    return Behaviour(body=ok(output).body, delay_seconds=seconds)
