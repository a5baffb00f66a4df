"""`orchestrator worker` as a process of its own: started, asked how it is, and broken."""

import asyncio
import json
import os
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from chaos.fleet import ForgeLine
from orchestrator.local.process import ChildProcess, Command
from tests.fakes.bus import until
from tests.fakes.forked_process import ForkedProcess

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 40.0
STOP_SECONDS = 45.0


def clean_environment() -> dict[str, str]:
    """Nothing of the settings of whoever runs the tests."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {**kept, "PYTHONPATH": str(ROOT)}


class WorkerProcess:
    """One worker; ended with the test, however that one goes.

    By its command, which takes seconds to import all it needs, or forked where there is a forge.
    """

    def __init__(
        self, name: str, *, environ: Mapping[str, str], log: Path, forge: ForgeLine | None = None
    ) -> None:
        self.name = name
        self.log = log
        self.environ = {**clean_environment(), **environ}
        """May be changed before the start."""
        self.process = _forked(self, forge) if forge else _by_command(self)
        self._from = 0

    async def start(self) -> "WorkerProcess":
        """Starts it, and returns when it reads messages and runs tasks."""
        await self.launch()
        await self.process.wait_until(self.is_ready, within_seconds=START_SECONDS)
        return self

    async def launch(self) -> None:
        """Starts it, and waits for nothing."""
        self._from = self.log.stat().st_size if self.log.exists() else 0
        await self.process.start()

    async def stop(self) -> int:
        """SIGTERM; the exit status."""
        self.signal(signal.SIGTERM)
        return await self.ended()

    async def ended(self) -> int:
        async with asyncio.timeout(STOP_SECONDS):
            return await self.process.wait()

    async def kill(self) -> None:
        await self.process.kill()

    def signal(self, number: signal.Signals) -> None:
        """Nothing happens where it has ended."""
        if self.process.running:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, number)

    def freeze(self) -> None:
        self.process.freeze()

    def thaw(self) -> None:
        self.process.thaw()

    def lines(self) -> list[dict[str, Any]]:
        """What this run has logged so far."""
        with self.log.open("rb") as log:
            log.seek(self._from)
            said = log.read().decode(errors="replace").splitlines()
        return [json.loads(line) for line in said if line.startswith("{")]

    def text(self) -> str:
        with self.log.open("rb") as log:
            log.seek(self._from)
            return log.read().decode(errors="replace")

    def says(self, event: str) -> list[dict[str, Any]]:
        """The lines with this message."""
        return [line for line in self.lines() if line.get("message") == event]

    async def will_say(self, event: str, *, seconds: float = 30.0) -> dict[str, Any]:
        await until(lambda: bool(self.says(event)), seconds=seconds, what=f"log line {event!r}")
        return self.says(event)[0]

    async def get(self, path: str) -> tuple[int, str]:
        """Status and body of one of its own pages."""
        bound = await self.will_say("probes and metrics", seconds=START_SECONDS)
        address = str(bound["livez"]).removesuffix("/livez")
        return await asyncio.to_thread(_get, address + path)

    async def is_ready(self) -> bool:
        if not self.says("probes and metrics"):
            return False
        status, _ = await self.get("/readyz")
        return status == 200


def _by_command(worker: WorkerProcess) -> ChildProcess:
    command = Command(
        name=f"worker {worker.name!r}",
        argv=(sys.executable, "-m", "orchestrator", "worker"),
        env=worker.environ,
    )
    return ChildProcess(command, log=worker.log)


def _forked(worker: WorkerProcess, forge: ForgeLine) -> ForkedProcess:
    return ForkedProcess(forge, environ=worker.environ, log=worker.log)


def _get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)
