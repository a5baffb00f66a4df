import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from orchestrator.local.errors import LocalServerError
from orchestrator.local.process import ChildProcess, Command, locked_folder

SLEEP = "import time; time.sleep(600)"

# Starts a grandchild in a session of its own, as PostgreSQL's backends are, and tells its pid.
FAMILY = """
import subprocess, sys, time
argv = [sys.executable, "-c", "import time; time.sleep(600)"]
child = subprocess.Popen(argv, start_new_session=True)
print(child.pid, flush=True)
time.sleep(600)
"""
PARENT = """
import asyncio, sys
from pathlib import Path
from orchestrator.local.process import ChildProcess, Command

async def main():
    command = Command(name="family", argv=(sys.executable, "-c", sys.argv[2]))
    child = ChildProcess(command, log=Path(sys.argv[1]))
    await child.start()
    print(child.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


Started = Callable[[str], Awaitable[ChildProcess]]


@pytest_asyncio.fixture(loop_scope="session")
async def started(tmp_path: Path) -> AsyncIterator[Started]:
    """Runs Python code as a child, with its log in `tmp_path / "log"`."""
    async with AsyncExitStack() as stack:

        async def start(code: str) -> ChildProcess:
            child = thing(sys.executable, "-c", code, log=tmp_path / "log")
            stack.push_async_callback(child.kill)
            await child.start()
            return child

        yield start


def thing(*argv: str, log: Path) -> ChildProcess:
    return ChildProcess(Command(name="Thing", argv=argv), log=log)


def state(pid: int) -> str:
    """The letter that `ps` shows (T is stopped, S sleeps); empty when there is no such process."""
    return shown("stat", pid)[:1]


def shown(column: str, pid: int) -> str:
    listed = subprocess.run(["ps", "-o", f"{column}=", "-p", str(pid)], capture_output=True)
    return listed.stdout.decode().strip()


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  (another process: there is no event)
            await asyncio.sleep(0.02)


async def eventually_gone(pid: int) -> None:
    await eventually(lambda: state(pid) in {"", "Z"})


async def first_number(log: Path) -> int:
    await eventually(lambda: has_a_line(log))
    return written_number(log)


def has_a_line(log: Path) -> bool:
    return log.exists() and log.read_text().endswith("\n")


def written_number(log: Path) -> int:
    return int(log.read_text().split()[0])


async def test_an_early_exit_shows_the_exit_status_and_the_logs_last_lines(
    started: Started,
) -> None:
    child = await started("print('no disk left'); raise SystemExit(3)")

    async def never() -> bool:
        return False

    with pytest.raises(LocalServerError, match=r"exit status 3.*\n  no disk left"):
        await child.wait_until(never, within_seconds=10)


async def test_a_command_that_does_not_exist_is_named(tmp_path: Path) -> None:
    child = thing("/no/such", log=tmp_path / "log")
    await child.start()

    assert await child.wait() == 127
    assert child.last_lines() == ["/no/such: No such file or directory"]


async def test_what_ignores_the_stop_signal_is_killed_after_the_grace(
    started: Started, tmp_path: Path
) -> None:
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True);"
    child = await started(deaf + "time.sleep(600)")
    await first_number(tmp_path / "log")

    await child.stop(grace_seconds=0.2)

    assert child.exit_status == 128 + signal.SIGKILL


async def test_kill_takes_the_grandchildren_too(started: Started, tmp_path: Path) -> None:
    child = await started(FAMILY)
    grandchild = await first_number(tmp_path / "log")

    await child.kill()

    assert not child.running
    await eventually_gone(grandchild)


async def test_freeze_stops_the_grandchildren_too_and_thaw_lets_all_go_on(
    started: Started, tmp_path: Path
) -> None:
    child = await started(FAMILY)
    grandchild = await first_number(tmp_path / "log")

    child.freeze()
    await eventually(lambda: {state(child.pid), state(grandchild)} == {"T"})

    child.thaw()
    await eventually(lambda: {state(child.pid), state(grandchild)} == {"S"})


async def test_a_frozen_child_can_be_stopped(started: Started) -> None:
    child = await started(SLEEP)
    child.freeze()

    await child.stop()

    assert child.exit_status == 128 + signal.SIGTERM


@pytest.mark.parametrize("frozen", [False, True])
async def test_a_killed_parent_leaves_nothing_behind(tmp_path: Path, frozen: bool) -> None:
    log = tmp_path / "log"
    argv = [sys.executable, "-c", PARENT, str(log), FAMILY]
    parent = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    assert parent.stdout is not None
    child = int(await parent.stdout.readline())
    grandchild = await first_number(log)
    if frozen:
        os.kill(child, signal.SIGSTOP)

    parent.kill()

    await parent.communicate()
    await eventually_gone(child)
    await eventually_gone(grandchild)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of such an end")
async def test_a_child_ends_with_its_killed_guard(started: Started) -> None:
    child = await started(SLEEP)
    pid = child.pid

    os.kill(int(shown("ppid", pid)), signal.SIGKILL)

    await eventually_gone(pid)


async def test_a_child_is_not_in_the_terminals_process_group(started: Started) -> None:
    child = await started(SLEEP)

    assert os.getpgid(child.pid) == child.pid != os.getpgid(0)


async def test_a_folder_is_held_until_the_child_that_was_given_the_lock_has_ended(
    tmp_path: Path,
) -> None:
    child = thing("sleep", "600", log=tmp_path / "log")
    async with locked_folder(tmp_path, within_seconds=1) as held:
        await child.start(holding=held)

    with pytest.raises(LocalServerError, match="in use by another process"):
        async with locked_folder(tmp_path, within_seconds=0.1):
            pass
    await child.stop()
    async with locked_folder(tmp_path, within_seconds=0.1):
        pass


async def test_a_start_that_was_cancelled_leaves_nothing_behind(tmp_path: Path) -> None:
    child = thing("sleep", "600", log=tmp_path / "log")
    starting = asyncio.create_task(child.start())
    await asyncio.sleep(0)
    starting.cancel()
    await asyncio.wait([starting])

    await child.kill()

    assert starting.cancelled()
    assert not child.running
