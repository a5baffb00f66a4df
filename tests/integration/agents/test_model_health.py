"""What an OpenAI-compatible endpoint may say to `GET /models`, and what that means."""

import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from orchestrator.agents.model_health import ModelHealth, model_health

NO_LIST = "/models answers with something else than a list of models"
LISTED = json.dumps({"data": [{"id": "m"}, {"id": "n"}]})
ANSWERS = [(200, LISTED, True), (200, '{"data": []}', False)]
DOUBTS = [(200, "<html>", NO_LIST), (404, "", "/models answers HTTP 404")]


@asynccontextmanager
async def endpoint(
    models: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> AsyncIterator[str]:
    """An endpoint that answers `GET /v1/models`; its URL."""
    app = web.Application()
    app.router.add_get("/v1/models", models)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
    await runner.setup()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        await web.SockSite(runner, listening).start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        finally:
            await runner.cleanup()


async def not_found(_: web.Request) -> web.Response:
    return web.Response(status=404)


@pytest.mark.parametrize(("code", "body", "lists"), ANSWERS, ids=["listed", "not"])
async def test_an_endpoint_that_answers_is_well(code: int, body: str, lists: bool) -> None:
    async def models(request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer key"
        return web.Response(status=code, text=body)

    async with endpoint(models) as url:
        found = await model_health(base_url=url, api_key="key", name="m")
    assert found == ModelHealth(lists_model=lists)


async def test_the_query_and_the_headers_of_an_endpoint_go_with_the_question() -> None:
    async def models(request: web.Request) -> web.Response:
        assert request.query_string == "api-version=2024-10-21"
        assert request.headers["api-key"] == "key"
        return web.Response(text=LISTED)

    query, headers = {"api-version": "2024-10-21"}, {"api-key": "key"}
    async with endpoint(models) as url:
        found = await model_health(
            base_url=url, api_key="key", name="m", query=query, headers=headers
        )
    assert found == ModelHealth(lists_model=True)


@pytest.mark.parametrize(("code", "body", "doubt"), DOUBTS, ids=["odd", "404"])
async def test_an_endpoint_without_a_list_may_be_the_wrong_address(
    code: int, body: str, doubt: str
) -> None:
    async def models(_: web.Request) -> web.Response:
        return web.Response(status=code, text=body)

    async with endpoint(models) as url:
        found = await model_health(base_url=url, api_key=None, name="m")
    assert found == ModelHealth(doubt=f"{url}{doubt}: does OPENAI_BASE_URL end in /v1?")


@pytest.mark.parametrize(("code", "words"), [(401, "refuses the key"), (503, "HTTP 503")])
async def test_an_endpoint_that_refuses_is_not(code: int, words: str) -> None:
    async def models(_: web.Request) -> web.Response:
        return web.Response(status=code)

    async with endpoint(models) as url:
        found = await model_health(base_url=url, api_key=None, name="m")
    assert words in (found.problem or "")


async def test_nobody_there_is_told_with_the_address() -> None:
    found = await model_health(base_url="http://127.0.0.1:1/v1", api_key=None, name="m")
    assert "http://127.0.0.1:1/v1 can't be reached" in (found.problem or "")
