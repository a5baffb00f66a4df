import asyncio
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from orchestrator.api.health import HealthServer
from orchestrator.domain.errors import InvalidSettings, StoreUnavailable
from orchestrator.telemetry.health import Check, HealthOptions


async def well() -> str | None:
    return None


async def ill() -> str | None:
    return "no broker answers"


async def broken() -> str | None:
    raise StoreUnavailable("PostgreSQL can't be reached")


@asynccontextmanager
async def serving(
    *, live: Mapping[str, Check], ready: Mapping[str, Check]
) -> AsyncIterator[Callable[[str], Awaitable[tuple[int, bytes]]]]:
    options = HealthOptions(host="127.0.0.1", port=0)
    async with serving_at(options, live=live, ready=ready) as (url, _):
        yield lambda path: read(url + path)


@asynccontextmanager
async def serving_at(
    options: HealthOptions, *, live: Mapping[str, Check], ready: Mapping[str, Check]
) -> AsyncIterator[tuple[str, str]]:
    server = HealthServer(options, live=live, ready=ready)
    addresses = server.bind()
    async with asyncio.TaskGroup() as group:
        group.create_task(server.run())
        yield addresses
        server.stop()


async def read(url: str) -> tuple[int, bytes]:
    def blocking() -> tuple[int, bytes]:
        try:
            with urlopen(url, timeout=5) as response:
                return response.status, response.read()
        except HTTPError as error:
            with error:
                return error.code, error.read()

    return await asyncio.to_thread(blocking)


async def test_a_process_that_is_well_is_live_and_ready() -> None:
    async with serving(live={"heartbeat": well}, ready={"kafka": well}) as get:
        assert (await get("/livez"))[0] == 200
        status, body = await get("/readyz")
        assert (status, json.loads(body)["checks"]) == (200, ["heartbeat", "kafka"])


async def test_an_outage_of_others_makes_it_unready_but_not_dead() -> None:
    async with serving(live={"heartbeat": well}, ready={"a": ill, "b": broken}) as get:
        assert (await get("/livez"))[0] == 200
        status, body = await get("/readyz")
        assert status == 503
        assert json.loads(body)["reasons"] == {
            "a": "no broker answers",
            "b": "PostgreSQL can't be reached",
        }


async def test_a_check_that_hangs_is_a_reason() -> None:
    async def hangs() -> str | None:
        await asyncio.Event().wait()
        return None

    async with serving(live={"heartbeat": hangs}, ready={}) as get:
        status, body = await get("/livez")
        assert (status, json.loads(body)["reasons"]) == (503, {"heartbeat": "no answer within 2 s"})


async def test_metrics_are_prometheus_text() -> None:
    async with serving(live={}, ready={}) as get:
        status, body = await get("/metrics")
        assert status == 200
        assert b"orchestrator_tasks_running" in body


async def test_with_a_port_of_their_own_metrics_and_reasons_are_only_there() -> None:
    options = HealthOptions(host="127.0.0.1", port=0, metrics_port=0)
    async with serving_at(options, live={}, ready={"a": ill, "b": well}) as (probes, metrics):
        status, body = await read(f"{probes}/readyz")
        assert (status, json.loads(body)) == (503, {"status": "unavailable", "failed": ["a"]})
        assert (await read(f"{probes}/metrics"))[0] == 404
        assert b"orchestrator_tasks_running" in (await read(f"{metrics}/metrics"))[1]
        assert json.loads((await read(f"{metrics}/readyz"))[1])["reasons"] == {
            "a": "no broker answers"
        }


async def test_the_process_keeps_its_own_signal_handlers() -> None:
    before = signal.getsignal(signal.SIGTERM)
    async with serving(live={}, ready={}) as get:
        await get("/livez")
        assert signal.getsignal(signal.SIGTERM) is before


async def test_a_port_that_is_taken_is_a_setting_to_change() -> None:
    first = HealthServer(HealthOptions(host="127.0.0.1", port=0), live={}, ready={})
    taken = int(first.bind()[0].rpartition(":")[2])
    second = HealthServer(HealthOptions(host="127.0.0.1", port=taken), live={}, ready={})
    with pytest.raises(InvalidSettings, match=f"PORT is {taken}"):
        second.bind()
    first.stop()
    await first.run()
