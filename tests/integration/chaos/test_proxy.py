"""The proxy breaks what it is told to break, and nothing else."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import pytest_asyncio

from chaos.proxy import Proxy, running_proxy

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest_asyncio.fixture(loop_scope="session")
async def proxy() -> AsyncIterator[Proxy]:
    """Before a server that says everything twice."""

    async def repeat(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1024):
                writer.write(data + data)
        writer.close()

    server = await asyncio.start_server(repeat, "127.0.0.1", 0)
    async with server, running_proxy(*server.sockets[0].getsockname()[:2]) as proxy:
        yield proxy


@asynccontextmanager
async def connected(proxy: Proxy, *, works: bool = True) -> AsyncIterator[Streams]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    if works:
        assert await said(reader, writer, b"ab") == b"abab"
    yield reader, writer
    writer.transport.abort()
    with suppress(OSError):
        await writer.wait_closed()


async def said(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> bytes:
    writer.write(data)
    async with asyncio.timeout(0.5):
        return await reader.readexactly(2 * len(data))


async def test_a_reset_reaches_the_client_and_new_connections_work(proxy: Proxy) -> None:
    async with connected(proxy) as (reader, _):
        assert proxy.cut() == 1
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
    async with connected(proxy):
        assert proxy.cuts == 1


async def test_a_black_hole_answers_nothing_until_it_is_healed(proxy: Proxy) -> None:
    async with connected(proxy) as (reader, writer):
        proxy.black_hole()
        with pytest.raises(TimeoutError):
            await said(reader, writer, b"cd")
        proxy.heal()
        assert await reader.readexactly(4) == b"cdcd"


async def test_a_half_open_connection_hears_nothing_for_ever(proxy: Proxy) -> None:
    async with connected(proxy) as (reader, writer):
        assert proxy.half_open() == 1
        proxy.heal()
        with pytest.raises(TimeoutError):
            await said(reader, writer, b"cd")
        async with connected(proxy):
            pass


async def test_the_servers_answer_is_lost_after_so_many_bytes(proxy: Proxy) -> None:
    proxy.budget = lambda: 6
    async with connected(proxy) as (reader, writer):
        writer.write(b"cd")
        assert await reader.readexactly(2) == b"cd"
        with pytest.raises(ConnectionResetError):
            await reader.read(1)


async def test_a_delay_is_that_of_both_directions(proxy: Proxy) -> None:
    async with connected(proxy) as (reader, writer):
        proxy.delay_seconds = 0.1
        before = asyncio.get_running_loop().time()
        await said(reader, writer, b"cd")
        assert asyncio.get_running_loop().time() - before >= 0.2


async def test_who_is_refused_is_reset(proxy: Proxy) -> None:
    proxy.refuses = True
    async with connected(proxy, works=False) as (reader, _):
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
