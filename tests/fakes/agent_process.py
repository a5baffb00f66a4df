"""The fake agent as a process of its own, which goes on whatever happens to the test's loop."""

import asyncio
import json
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.local.ports import keep_ports
from orchestrator.local.process import ChildProcess, Command
from tests.fakes.worker_process import ROOT, clean_environment

START_SECONDS = 20.0


class AgentProcess:
    """Every path that ends in `/execute` is an agent's."""

    def __init__(self, folder: Path, *, output: Mapping[str, Any], delay_seconds: float) -> None:
        port = keep_ports(folder / "agent-port.json", ["agent"])["agent"]
        self.url = f"http://127.0.0.1:{port}"
        words = ("--port", str(port), "--delay-ms", str(delay_seconds * 1000))
        command = Command(
            name="the agents",
            argv=(
                sys.executable,
                "-m",
                "tests.fakes.agent",
                *words,
                "--output",
                json.dumps(output),
            ),
            env={**clean_environment(), "PYTHONPATH": str(ROOT)},
        )
        self._process = ChildProcess(command, log=folder / "agents.log")

    async def start(self) -> None:
        await self._process.start()
        await self._process.wait_until(self._answers, within_seconds=START_SECONDS)

    async def stop(self) -> None:
        await self._process.kill()

    async def counts(self) -> dict[str, Any]:
        """`sends` and `effects` by idempotency key, `epochs` of the sends in their order."""
        counts: dict[str, Any] = await asyncio.to_thread(_read, f"{self.url}/_counts")
        return counts

    async def _answers(self) -> bool:
        try:
            await self.counts()
        except OSError:
            return False
        return True


def _read(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)
