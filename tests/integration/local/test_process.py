import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.local.errors import LocalServerError
from orchestrator.local.process import ChildProcess, Command, locked_folder

# Starts a grandchild in a session of its own, as PostgreSQL's backends are, and tells its pid.
FAMILY = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print(child.pid, flush=True)
time.sleep(600)
"""
PARENT = """
import asyncio, sys
from pathlib import Path
from orchestrator.local.process import ChildProcess, Command

async def main():
    child = ChildProcess(Command(name="family", argv=(sys.executable, "-c", sys.argv[2])), log=Path(sys.argv[1]))
    await child.start()
    print(child.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def python(code: str, *, log: Path) -> ChildProcess:
    return ChildProcess(Command(name="Thing", argv=(sys.executable, "-c", code)), log=log)


def state(pid: int) -> str:
    """The letter that `ps` shows (T is stopped, S sleeps); empty when there is no such process."""
    shown = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return shown.stdout.strip()[:1]


async def eventually_gone(pid: int) -> None:
    async with asyncio.timeout(10):
        while state(pid) not in {"", "Z"}:
            await asyncio.sleep(0.02)


async def first_number(log: Path) -> int:
    async with asyncio.timeout(10):
        while not (log.exists() and log.read_text().endswith("\n")):
            await asyncio.sleep(0.02)
    return int(log.read_text().split()[0])


async def test_an_early_exit_shows_the_exit_status_and_the_logs_last_lines(tmp_path: Path) -> None:
    child = python("print('no disk left'); raise SystemExit(3)", log=tmp_path / "log")
    await child.start()

    async def never() -> bool:
        return False

    with pytest.raises(LocalServerError, match=r"exit status 3.*\n  no disk left"):
        await child.wait_until(never, within_seconds=10)


async def test_a_command_that_does_not_exist_is_named(tmp_path: Path) -> None:
    child = ChildProcess(Command(name="Thing", argv=("/no/such",)), log=tmp_path / "log")
    await child.start()

    assert await child.wait() == 127
    assert child.last_lines() == ["/no/such: No such file or directory"]


async def test_what_ignores_the_stop_signal_is_killed_after_the_grace(tmp_path: Path) -> None:
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1); time.sleep(600)"
    child = python(
        "import sys; sys.stdout.reconfigure(line_buffering=True);" + code, log=tmp_path / "log"
    )
    await child.start()
    await first_number(tmp_path / "log")

    await child.stop(grace_seconds=0.2)

    assert child.exit_status == 128 + signal.SIGKILL


async def test_kill_takes_the_grandchildren_too(tmp_path: Path) -> None:
    child = python(FAMILY, log=tmp_path / "log")
    await child.start()
    grandchild = await first_number(tmp_path / "log")

    await child.kill()

    assert not child.running
    await eventually_gone(grandchild)


async def test_freeze_stops_the_grandchildren_too_and_thaw_lets_all_go_on(tmp_path: Path) -> None:
    child = python(FAMILY, log=tmp_path / "log")
    await child.start()
    grandchild = await first_number(tmp_path / "log")

    child.freeze()
    assert (state(child.pid), state(grandchild)) == ("T", "T")
    child.thaw()
    assert (state(child.pid), state(grandchild)) == ("S", "S")
    await child.stop()


async def test_a_frozen_child_can_be_stopped(tmp_path: Path) -> None:
    child = python("import time; time.sleep(600)", log=tmp_path / "log")
    await child.start()
    child.freeze()

    await child.stop()

    assert child.exit_status == 128 + signal.SIGTERM


@pytest.mark.parametrize("frozen", [False, True])
async def test_a_killed_parent_leaves_nothing_behind(tmp_path: Path, frozen: bool) -> None:
    log = tmp_path / "log"
    argv = [sys.executable, "-c", PARENT, str(log), FAMILY]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        grandchild = await first_number(log)
        if frozen:
            os.kill(child, signal.SIGSTOP)
        parent.kill()

    await eventually_gone(child)
    await eventually_gone(grandchild)


async def test_a_child_is_not_in_the_terminals_process_group(tmp_path: Path) -> None:
    child = python("import time; time.sleep(600)", log=tmp_path / "log")
    await child.start()

    assert os.getpgid(child.pid) == child.pid != os.getpgid(0)
    await child.stop()


async def test_a_folder_is_held_until_the_child_that_was_given_the_lock_has_ended(
    tmp_path: Path,
) -> None:
    child = python("import time; time.sleep(600)", log=tmp_path / "log")
    async with locked_folder(tmp_path, within_seconds=1) as held:
        await child.start(holding=held)

    with pytest.raises(LocalServerError, match="in use by another process"):
        async with locked_folder(tmp_path, within_seconds=0.1):
            pass
    await child.stop()
    async with locked_folder(tmp_path, within_seconds=0.1):
        pass


async def test_a_start_that_was_cancelled_leaves_nothing_behind(tmp_path: Path) -> None:
    child = python("import time; time.sleep(600)", log=tmp_path / "log")
    starting = asyncio.create_task(child.start())
    await asyncio.sleep(0)
    starting.cancel()
    await asyncio.wait([starting])

    await child.kill()

    assert starting.cancelled()
    assert not child.running
