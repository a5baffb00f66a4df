"""The demo agents as a user runs them: their own process, their own declarations, our caller."""

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tenacity import AsyncRetrying, stop_after_delay, wait_fixed

from orchestrator.agents.agent import CallRequest
from orchestrator.agents.callers.http_json import HttpCaller
from orchestrator.agents.declaration import load_folder
from orchestrator.agents.health import health
from orchestrator.agents.http import AgentHttpClient, agent_http_client
from orchestrator.agents.variables import DeclarationVariables
from orchestrator.domain.agent import Agent
from orchestrator.domain.call import CallResult, CallStatus
from orchestrator.domain.ids import Epoch, Seq, TaskId

FOLDER = Path(__file__).parents[3] / "demo" / "agents"


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    agents: dict[str, Agent]
    client: AgentHttpClient
    process: asyncio.subprocess.Process

    async def call(self, agent: str, task: str, *, step: int = 1, **given: Any) -> CallResult:
        request = CallRequest(
            agent=self.agents[agent],
            task_id=TaskId(task),
            step=Seq(step),
            call=1,
            input=given,
            epoch=Epoch(1),
            timeout_seconds=10,
        )
        return await HttpCaller(self.client, environ={}).call(request)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


async def until_healthy(client: AgentHttpClient, agent: Agent) -> None:
    async for attempt in AsyncRetrying(wait=wait_fixed(0.05), stop=stop_after_delay(20)):
        with attempt:
            answer = await health(client, agent, timeout_seconds=1)
            assert answer.ready, answer.error


@asynccontextmanager
async def served() -> AsyncIterator[Demo]:
    port = free_port()
    command = [str(FOLDER / "serve.py"), "--port", str(port), "--delay-ms", "0"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    here = {"DEMO_AGENTS_URL": f"http://127.0.0.1:{port}"}
    found = load_folder(FOLDER, DeclarationVariables(environ=here))
    try:
        async with agent_http_client() as client:
            await until_healthy(client, found[0])
            yield Demo(agents={a.id: a for a in found}, client=client, process=process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.fixture(scope="module")
async def demo() -> AsyncIterator[Demo]:
    async with served() as it:
        yield it


async def test_every_agent_is_declared_and_ready(demo: Demo) -> None:
    assert sorted(demo.agents) == ["accounts", "contracts", "crm", "screening"]
    for agent in demo.agents.values():
        answer = await health(demo.client, agent)
        assert (answer.ready, answer.version, answer.error) == (True, "1.0.0", None)
        assert answer.capabilities == agent.capabilities


async def test_a_customer_is_registered_screened_and_gets_an_account(demo: Demo) -> None:
    crm = await demo.call("crm", "onboarding", name="Globex", country="FR")
    customer_id = crm.output["customer_id"]
    screening = await demo.call(
        "screening", "onboarding", step=2, customer_id=customer_id, name="Globex"
    )
    accounts = await demo.call(
        "accounts", "onboarding", step=3, customer_id=customer_id, country="FR"
    )
    assert screening.output == {"screening_result": "clear"}
    assert str(accounts.output["account_number"]).startswith("FR")


@pytest.mark.parametrize("country", ["AT", "BE", "CH", "DE", "ES", "FR"])
async def test_an_account_number_has_right_check_digits(demo: Demo, country: str) -> None:
    result = await demo.call("accounts", f"iban-{country}", customer_id="C-1", country=country)
    number = str(result.output["account_number"])
    digits = "".join(str(int(character, 36)) for character in number[4:] + number[:4])
    assert (number[:2], int(digits) % 97) == (country, 1)


async def test_a_country_without_ibans_gets_a_plain_number(demo: Demo) -> None:
    result = await demo.call("accounts", "us", customer_id="C-1", country="US")
    assert str(result.output["account_number"])[:2] == "US"


async def test_hooli_fails_once_and_then_succeeds_under_the_same_key(demo: Demo) -> None:
    first = await demo.call("crm", "flaky", name="Hooli")
    assert (first.status, first.retryable, first.retry_after_seconds) == ("error", True, 1.0)
    assert first.error == "agent 'crm' answered HTTP 503: The customer database is restarting."
    second = await demo.call("crm", "flaky", name="Hooli")
    assert second.status == CallStatus.SUCCESS


async def test_a_contract_asks_for_its_term(demo: Demo) -> None:
    first = await demo.call("contracts", "contract", name="Initech")
    assert first.status == CallStatus.INPUT_REQUIRED
    assert first.error == "How many months shall the contract run (term_months)?"
    second = await demo.call("contracts", "contract", step=2, name="Initech", term_months=24)
    assert str(second.output["contract_id"]).startswith("F-")


@pytest.mark.parametrize(
    ("agent", "given", "other"),
    [
        ("crm", {"name": "ACME"}, {"name": "Globex"}),
        ("accounts", {"customer_id": "C-1"}, {"customer_id": "C-2"}),
        ("screening", {"customer_id": "1", "name": "x"}, {"customer_id": "1", "name": "Spectre"}),
        ("contracts", {"name": "ACME", "term_months": 1}, {"name": "ACME", "term_months": 2}),
    ],
)
async def test_the_same_key_gets_the_same_answer(
    demo: Demo, agent: str, given: dict[str, Any], other: dict[str, Any]
) -> None:
    first = await demo.call(agent, f"again-{agent}", **given)
    again = await demo.call(agent, f"again-{agent}", **other)
    assert (first.status, again.output) == (CallStatus.SUCCESS, first.output)
    assert (await demo.call(agent, f"new-{agent}", **other)).output != first.output


async def test_sigterm_ends_the_agents_cleanly_and_silently() -> None:
    async with served() as demo:
        await demo.call("crm", "t", name="ACME")
        demo.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            output, _ = await demo.process.communicate()
    assert (demo.process.returncode, output) == (0, b"")
