"""An address to which no connection comes about and none is refused: what listens is full."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager


@asynccontextmanager
async def full_backlog() -> AsyncIterator[str]:
    """Its base URL, on loopback; packets of further connections are dropped there."""
    async with AsyncExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        loop, address = asyncio.get_running_loop(), listening.getsockname()
        while True:
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            try:
                async with asyncio.timeout(0.3):
                    await loop.sock_connect(waiting, address)
            except TimeoutError:
                break
        yield f"http://127.0.0.1:{address[1]}"
