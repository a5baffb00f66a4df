"""The README's first command, and `orchestrator dev`: as a newcomer calls them, in a folder."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import mkdtemp

import pytest

from tests.fakes.bus import until
from tests.integration.cli.command import orchestrator

DEMO_SECONDS = 120
START_SECONDS = 60
SETTINGS = ("DATABASE_URL", "KAFKA_", "OPENAI_", "LLM_", "ORCHESTRATOR_", "DEMO_")
"""How variables begin that would lead the command to something that is there already."""
REGISTER = ("publish", "task", "Register the customer ACME", "-r", "customer_id", "--id", "one")


@pytest.fixture
def folder(server_folder: Path) -> Iterator[Path]:
    """Where nothing was run before."""
    folder = Path(mkdtemp(prefix="newcomer-", dir=server_folder))
    folder.chmod(0o711)  # PostgreSQL runs as another user when we are root
    yield folder
    assert _processes_of(folder) == []


def _processes_of(folder: Path) -> list[str]:
    """The command lines that name it: the servers' data lies in it."""
    found: list[str] = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = process.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it ended meanwhile
        found += [line] if str(folder) in line else []
    return found


@asynccontextmanager
async def started(command: str, folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """The command in that folder; what it says is in `out`."""
    environ = {name: v for name, v in os.environ.items() if not name.startswith(SETTINGS)}
    with (folder / "out").open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "orchestrator", command),
            cwd=folder,
            env=environ,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def test_the_demo_ends_well_and_leaves_no_server_behind(folder: Path) -> None:
    async with started("demo", folder) as demo, asyncio.timeout(DEMO_SECONDS):
        assert await demo.wait() == 0, (folder / "out").read_text()
    assert "Onboard the supplier Globex" in (folder / "out").read_text()


async def test_beside_dev_every_command_finds_it_and_the_doctor_has_nothing_to_say(
    folder: Path,
) -> None:
    async with started("dev", folder) as dev:

        async def has_worker() -> bool:
            assert dev.returncode is None, (folder / "out").read_text()
            done = await asyncio.to_thread(orchestrator, "doctor", cwd=folder)
            return "running: 1" in done.stdout

        await until((folder / ".orchestrator/dev.env").is_file, seconds=START_SECONDS)
        await until(has_worker, seconds=START_SECONDS)
        findings = (await asyncio.to_thread(orchestrator, "doctor", cwd=folder)).stdout
        assert all(line.startswith("ok ") for line in findings.splitlines()), findings
        done = await asyncio.to_thread(orchestrator, *REGISTER, "--wait", cwd=folder)
        assert done.returncode == 0, done.stderr
        history = await asyncio.to_thread(orchestrator, "tasks", "history", "one", cwd=folder)
        assert "demo-planner" in history.stdout

        dev.send_signal(signal.SIGINT)
        async with asyncio.timeout(START_SECONDS):
            assert await dev.wait() == 0, (folder / "out").read_text()
    assert not (folder / ".orchestrator/dev.env").exists()
