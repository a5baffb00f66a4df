"""A worker that lost its lease while it was being connected sends nothing."""

import asyncio
from dataclasses import replace

import httpx
import pytest

from orchestrator.agents.callers.http_json import HttpCaller
from orchestrator.agents.http import agent_http_client, model_http_client
from orchestrator.domain.call import CallResult
from orchestrator.planners.chat.failures import model_failed
from orchestrator.planners.chat.model import build_model
from orchestrator.planners.chat.options import ModelOptions
from tests.fakes.agent import FakeAgent, running_agent
from tests.fakes.bus import until
from tests.fakes.callers import CRM, call_request


async def called(peer: FakeAgent, *answers: bool) -> list[CallResult]:
    """The results of calls one after the other, each with the lease held or not."""
    results = []
    held = [True]
    async with agent_http_client(may_send=lambda: held[0]) as client:
        caller = HttpCaller(client, environ={})
        for held[0] in answers:
            agent = replace(CRM, endpoint=peer.url)
            results.append(await caller.call(call_request(agent=agent)))
    return results


async def test_call_is_not_sent_when_the_lease_ends_while_it_is_being_connected() -> None:
    async with running_agent() as peer:
        [result] = await called(peer, False)
    assert (result.retryable, result.was_sent) == (True, False)
    assert not peer.received


async def test_call_is_not_sent_on_a_connection_that_is_used_again_after_the_lease() -> None:
    async with running_agent() as peer:
        first, second = await called(peer, True, False)
    assert (first.was_sent, second.was_sent) == (True, False)
    assert len(peer.received) == 1


async def test_call_is_not_sent_when_the_lease_ends_between_the_connection_and_the_write() -> None:
    looks = iter((True, False))
    async with running_agent() as peer, agent_http_client(may_send=lambda: next(looks)) as client:
        request = call_request(agent=replace(CRM, endpoint=peer.url))
        result = await HttpCaller(client, environ={}).call(request)
    assert (result.retryable, result.was_sent) == (True, False)
    assert not peer.received


async def test_prompt_is_not_sent_when_the_lease_ends_while_it_is_being_connected() -> None:
    async with (
        running_agent() as peer,
        model_http_client(timeout_seconds=5, may_send=lambda: False) as client,
    ):
        with pytest.raises(httpx.ConnectError, match="lost its lease"):
            await client.post(f"{peer.url}/execute", content=b"{}")
    assert not peer.received


@pytest.mark.parametrize("answers", [(False,), (True, False)], ids=["new", "used again"])
async def test_no_connection_is_left_open_by_a_call_that_is_held_back(
    answers: tuple[bool, ...],
) -> None:
    opened = closed = 0

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened, closed
        opened += 1
        try:
            while await reader.read(65536):
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        finally:
            closed += 1
            writer.close()

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    held = [True]
    async with server, agent_http_client(may_send=lambda: held[0]) as client:
        caller = HttpCaller(client, environ={})
        for held[0] in answers:
            await caller.call(call_request(agent=replace(CRM, endpoint=f"http://127.0.0.1:{port}")))
        await until(lambda: opened == closed > 0, seconds=2, what="each connection closed")


async def test_a_prompt_that_is_held_back_is_known_as_such_however_it_is_wrapped() -> None:
    async with model_http_client(timeout_seconds=5, may_send=lambda: False) as client:
        options = ModelOptions(model="openai:fake", base_url="http://127.0.0.1:1/v1", api_key="k")
        async with running_agent() as peer:
            options = replace(options, base_url=f"{peer.url}/v1")
            model = build_model(options, client=client)
            with pytest.raises(Exception, match="Connection error") as caught:
                await model.ainvoke("hello")
    assert not model_failed(caught.value, options=options).was_sent
    assert not peer.received
