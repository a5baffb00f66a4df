"""A worker that a process which has imported the product forks: started in no time, and as real."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path

from chaos.fleet import ENTRY, ForgeLine

POLL_SECONDS = 0.02


class ForkedProcess:
    """What `ChildProcess` is, as far as a test breaks it."""

    def __init__(self, forge: ForgeLine, *, environ: Mapping[str, str], log: Path) -> None:
        self._forge = forge
        self._environ = environ
        self._log = log
        self._pid = 0
        self._ended: asyncio.Future[int] | None = None

    @property
    def pid(self) -> int:
        return self._pid

    @property
    def running(self) -> bool:
        return self._ended is not None and not self._ended.done()

    async def start(self) -> None:
        self._log.touch()
        self._pid, self._ended = await self._forge.fork(
            environ=self._environ, log=str(self._log), folder=str(self._log.parent), entry=ENTRY
        )

    async def wait_until(
        self, ready: Callable[[], Awaitable[bool]], *, within_seconds: float
    ) -> None:
        """Returns once `ready` says so; the log is shown where the test fails."""
        deadline = time.monotonic() + within_seconds
        while not await ready():
            assert self.running, "the worker ended while it started"
            assert time.monotonic() < deadline, f"not ready within {within_seconds:g} s"
            await asyncio.sleep(POLL_SECONDS)

    async def wait(self) -> int:
        """The exit status; 128 + n where signal n ended it."""
        assert self._ended is not None, "never started"
        status = await asyncio.shield(self._ended)
        return status if status >= 0 else 128 - status

    async def kill(self) -> None:
        """SIGKILL."""
        if self.running:
            self._send(signal.SIGKILL)
            await self.wait()

    def freeze(self) -> None:
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        self._send(signal.SIGCONT)

    def _send(self, number: signal.Signals) -> None:
        if self.running:
            with suppress(ProcessLookupError):
                os.kill(self._pid, number)
