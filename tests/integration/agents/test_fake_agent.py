"""The fake agent as a process of its own: scripted and counted over HTTP, for crash tests."""

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_fixed

from orchestrator.agents.callers.http_json import HttpCaller
from orchestrator.agents.http import AgentHttpClient, agent_http_client
from orchestrator.domain.ids import Epoch
from tests.fakes.callers import CRM, call_request


@pytest.fixture
async def url() -> AsyncIterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.fakes.agent", "--port", str(port)),
        *("--output", '{"customer_id": "C-1"}'),
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


@pytest.fixture
async def client() -> AsyncIterator[AgentHttpClient]:
    async with agent_http_client() as it:
        yield it


async def read(client: AgentHttpClient, url: str, *, script: object = None) -> Any:
    """What a GET gives, or with a script a POST; waits until the process listens."""
    method, content = ("POST", json.dumps(script).encode()) if script else ("GET", None)
    async for attempt in AsyncRetrying(
        wait=wait_fixed(0.05),
        stop=stop_after_delay(20),
        retry=retry_if_exception_type(httpx.TransportError),
    ):
        with attempt:
            async with client.exchange(method, url, headers={}, content=content) as response:
                answer = json.loads(await response.aread())
    return answer


async def test_script_and_counts_work_across_processes(client: AgentHttpClient, url: str) -> None:
    await read(client, f"{url}/_script", script=[{"code": 503}])
    caller = HttpCaller(client, environ={})
    request = call_request(agent=replace(CRM, endpoint=f"{url}/crm"))
    first = await caller.call(request)
    second = await caller.call(replace(request, epoch=Epoch(8)))
    assert (first.retryable, second.output) == (True, {"customer_id": "C-1"})
    counts = await read(client, f"{url}/_counts")
    assert (counts["sends"], counts["effects"]) == ({"t-1/3/2": 2}, {"t-1/3/2": 1})
    assert counts["epochs"] == {"t-1/3/2": ["7", "8"]}
