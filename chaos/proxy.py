"""A TCP proxy that breaks what goes through it: reset, silence, half of a connection, delay.

One listens before each server that is to be out of reach; nothing in the product knows of it.
"""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

CHUNK_BYTES = 64 * 1024
LOOPBACK = "127.0.0.1"
GONE = (OSError, RuntimeError)
"""What comes of a connection that was closed meanwhile; the second is uvloop's word."""


@dataclass(slots=True, eq=False)
class _Link:
    """One client's connection and ours to the server."""

    client: asyncio.StreamWriter
    task: "asyncio.Task[None] | None"
    server: asyncio.StreamWriter | None = None
    budget: int | None = None
    """Bytes of the server's that are still to be passed on; None: all."""
    is_lost: bool = False
    """Nothing passes any more, and neither end is told."""
    pumps: list["asyncio.Task[None]"] = field(default_factory=list)

    def allowed(self, data: bytes, *, to: asyncio.StreamWriter) -> bytes:
        """As much of it as may be passed on."""
        if self.budget is None or to is not self.client:
            return data
        data = data[: self.budget]
        self.budget -= len(data)
        return data


class Proxy:
    """Passes everything on, until it is told to break something. Made by `running_proxy`."""

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._links: set[_Link] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self.port = 0
        self.delay_seconds = 0.0
        """Before each chunk, in each direction."""
        self.refuses = False
        """New connections are reset."""
        self.budget: Callable[[], int] | None = None
        """For each new connection: after how many of the server's bytes it is reset."""
        self.cuts = 0
        """Connections that were reset or lost so far."""
        self.accepted = 0

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    @property
    def open_links(self) -> int:
        return len(self._links)

    def cut(self) -> int:
        """Resets every connection, on both sides; how many there were."""
        links = list(self._links)
        for link in links:
            self._reset(link)
        return len(links)

    def black_hole(self) -> None:
        """Reads nothing any more; new connections are taken, and nothing comes of them."""
        self._flows.clear()

    def half_open(self) -> int:
        """Loses every connection: the server sees its end, the client hears nothing, for ever.

        As when a firewall forgets what it has let through. New connections work.
        """
        links = [link for link in self._links if not link.is_lost]
        for link in links:
            link.is_lost = True
            self.cuts += 1
            _abort(link.server)
        return len(links)

    def heal(self) -> None:
        """Passes on what waited, and breaks nothing new. What is lost stays lost."""
        self.delay_seconds, self.refuses, self.budget = 0.0, False, None
        self._flows.set()

    async def ended(self) -> None:
        """Returns when every connection has; lost ones end with their client."""
        for link in self._links:
            _abort(link.client)
        tasks = [link.task for link in self._links if link.task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client, to the end of its connection."""
        link = _Link(client=writer, task=asyncio.current_task())
        self._links.add(link)
        self.accepted += 1
        try:
            await self._connect(link, reader)
        except GONE:
            _abort(link.client)
        finally:
            for pump in link.pumps:
                pump.cancel()
            await asyncio.gather(*link.pumps, return_exceptions=True)
            self._links.discard(link)
            _abort(link.client)
            _abort(link.server)

    async def _connect(self, link: _Link, reader: asyncio.StreamReader) -> None:
        if self.refuses:
            self._reset(link)
            return
        await self._flows.wait()
        answers, link.server = await asyncio.open_connection(*self._target)
        link.budget = self.budget() if self.budget else None
        link.pumps = [
            asyncio.create_task(self._pump(link, reader, link.server), name="to the server"),
            asyncio.create_task(self._pump(link, answers, link.client), name="to the client"),
        ]
        await asyncio.gather(*link.pumps)

    async def _pump(
        self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with suppress(*GONE):
            while data := await self._next(reader):
                if link.is_lost:
                    continue
                writer.write(link.allowed(data, to=writer))
                await writer.drain()
                if link.budget == 0:
                    self._reset(link)
                    return
            if not link.is_lost:
                writer.write_eof()

    async def _next(self, reader: asyncio.StreamReader) -> bytes:
        await self._flows.wait()
        data = await reader.read(CHUNK_BYTES)
        await self._flows.wait()
        if self.delay_seconds:
            await asyncio.sleep(self.delay_seconds)
        return data

    def _reset(self, link: _Link) -> None:
        self.cuts += 1
        _abort(link.client)
        _abort(link.server)


def _abort(writer: asyncio.StreamWriter | None) -> None:
    """RST, not FIN: what is still on its way is gone."""
    if writer is None or writer.transport.is_closing():
        return
    connection = writer.get_extra_info("socket")
    with suppress(*GONE):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@asynccontextmanager
async def running_proxy(host: str, port: int, *, at: int = 0) -> AsyncIterator[Proxy]:
    """On port `at` of loopback (0: a free one), before the server at `host` and `port`."""
    proxy = Proxy(host, port)
    server = await asyncio.start_server(proxy.serve, LOOPBACK, at)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.heal()
        proxy.cut()
        await asyncio.wait_for(proxy.ended(), timeout=5)


def by_way_of(proxy: Proxy, url: str) -> str:
    """The URL with the proxy's address in place of the server's; the login stays."""
    parts = urlsplit(url)
    login, at, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{login}{at}{proxy.address}"))
