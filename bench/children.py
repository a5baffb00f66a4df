"""Python processes that are talked to in JSON lines; they end when we do, however we end."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson

ROOT = Path(__file__).resolve().parents[1]
STOP_SECONDS = 5.0


class Child:
    """One `python -m MODULE …`. Made by `child`."""

    def __init__(self, module: str, process: asyncio.subprocess.Process) -> None:
        self._module = module
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    async def hear(self) -> dict[str, Any]:
        """Its next line."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._module} ended; its last words are above")
        said: dict[str, Any] = orjson.loads(line)
        return said

    async def tell(self, body: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(orjson.dumps(body) + b"\n")
        await self._process.stdin.drain()

    async def ask(self, body: dict[str, Any]) -> dict[str, Any]:
        await self.tell(body)
        return await self.hear()


@asynccontextmanager
async def child(module: str, *arguments: str) -> AsyncIterator[Child]:
    """Runs while inside."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=16 * 1024 * 1024,
        cwd=ROOT,
        # Ctrl-C in the terminal is for us alone; the child sees its standard input end.
        start_new_session=True,
    )
    try:
        yield Child(module, process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
