"""One worker for the tests of a file that break nothing, and what every acceptance test may use."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from tests.fakes.agent import FakeAgent
from tests.fakes.llm import FakeLlm
from tests.fakes.observer import Observer
from tests.fixtures.servers import KafkaServer, PostgresServer
from tests.fixtures.service import Service, new_service
from tests.fixtures.service import service as service  # a fixture


@dataclass(frozen=True, slots=True, kw_only=True)
class Office:
    """A running service with three agents: two of them need what the first one adds."""

    service: Service
    crm: FakeAgent
    accounts: FakeAgent
    contracts: FakeAgent

    @property
    def llm(self) -> FakeLlm:
        return self.service.llm

    @property
    def observer(self) -> Observer:
        return self.service.observer


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def open_office(
    kafka: KafkaServer,
    postgres: PostgresServer,
    database_template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Office]:
    folder = tmp_path_factory.mktemp("office")
    async with new_service(kafka, postgres, template=database_template, folder=folder) as service:
        made = Office(
            service=service,
            crm=await service.agent("crm", needs=["name"], adds={"customer_id": "C-1"}),
            accounts=await service.agent(
                "accounts", needs=["customer_id"], adds={"account_number": "A-1"}
            ),
            contracts=await service.agent(
                "contracts", needs=["customer_id"], adds={"contract_id": "K-1"}
            ),
        )
        await service.worker().start()
        yield made


@pytest.fixture
def office(open_office: Office) -> Iterator[Office]:
    """Shared by the tests of a file; each test uses task ids of its own."""
    yield open_office
    open_office.service.show_logs()
