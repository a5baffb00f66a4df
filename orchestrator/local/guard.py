"""Runs one command and ends it when whoever asked for it is gone, however that one went.

`process.py` starts this file as a script (standard library only, so that it is up in 20 ms). Its
standard input is a pipe that nobody writes to: the kernel closes it when the parent dies, also on
SIGKILL. Then, and when the command itself ends, everything that the command started is ended too.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_LIFELINE = 0
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def descendants(pid: int) -> list[int]:
    """Every living process below `pid`, parents before children, without `pid` itself."""
    children: dict[int, list[int]] = {}
    for child, parent in _processes():
        children.setdefault(parent, []).append(child)
    found = list(children.get(pid, ()))
    for each in found:  # grows while it is walked
        found.extend(children.get(each, ()))
    return found


def _processes() -> Iterator[tuple[int, int]]:
    """(pid, parent's pid) of every process."""
    proc = Path("/proc")
    if not proc.is_dir():
        listed = subprocess.run(
            ["/bin/ps", "-axo", "pid=,ppid="], capture_output=True, text=True, check=True
        )
        for line in listed.stdout.splitlines():
            pid, parent = line.split()
            yield int(pid), int(parent)
        return
    for entry in proc.iterdir():
        if entry.name.isdigit():
            with suppress(OSError):  # it ended meanwhile
                # The name stands in brackets and may hold blanks and brackets itself.
                _, _, rest = (entry / "stat").read_text(errors="replace").rpartition(")")
                yield int(entry.name), int(rest.split()[1])


def send(pids: list[int], signum: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signum)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _become(command: list[str], *, uid: int, gid: int, guard: int) -> None:
    """In the forked child: turn into the command. Never returns."""
    # A session of its own: Ctrl-C in the terminal must not reach it before the parent decides.
    os.setsid()
    for signum in (signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(signum, signal.SIG_DFL)
    if gid >= 0:
        os.setgroups([])
        os.setgid(gid)
    if uid >= 0:
        os.setuid(uid)
    # After setuid, which clears it. Covers the guard's own end by SIGKILL.
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != guard:
        os._exit(137)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    os.closerange(3, 256)  # the folder's lock among them: it is the guard's
    try:
        os.execvp(command[0], command)  # noqa: S606  (no shell is wanted)
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
        os._exit(127)


class _Watch:
    """Waits for the end of the command or of the parent, whichever comes first."""

    def __init__(self) -> None:
        self._woken, wake = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _signum, _frame: None)
        self.ended: dict[int, int] = {}

    def until_end(self, pid: int) -> bool:
        """True when the command ended, False when the parent did."""
        while pid not in self.reap():
            readable, _, _ = select.select([_LIFELINE, self._woken], [], [])
            if _LIFELINE in readable and not os.read(_LIFELINE, 1):
                return False
            self._drain()
        return True

    def within(self, pid: int, seconds: float) -> bool:
        """Whether the command ended in this time."""
        deadline = time.monotonic() + seconds
        while pid not in self.reap():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            select.select([self._woken], [], [], left)
            self._drain()
        return True

    def reap(self) -> dict[int, int]:
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                self.ended[pid] = os.waitstatus_to_exitcode(status)
        return self.ended

    def _drain(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._woken, 512)


def _end_all(watch: _Watch, pid: int) -> None:
    """SIGKILL for all that is left; what lost its parent has become our child (Linux)."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while (left := descendants(os.getpid())) and time.monotonic() < deadline:
        send(left, signal.SIGKILL)
        watch.reap()
        time.sleep(0.005)


def main(arguments: list[str]) -> int:
    """STOP_SIGNAL GRACE_SECONDS UID GID COMMAND…: the command's exit status, 128 + n for signal n.

    The command's pid is written to standard output; its own output goes to our standard error.
    """
    stop_signal, uid, gid = int(arguments[0]), int(arguments[2]), int(arguments[3])
    grace_seconds = float(arguments[1])
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    for signum in (signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    watch, guard = _Watch(), os.getpid()
    settled, settling = os.pipe()
    pid = os.fork()
    if pid == 0:
        _become(arguments[4:], uid=uid, gid=gid, guard=guard)
    # It closes its end when it has left our session; who hears its pid may count on that.
    os.close(settling)
    os.read(settled, 1)
    with suppress(BrokenPipeError):
        os.write(1, f"{pid}\n".encode())
    if not watch.until_end(pid):
        send([pid, *descendants(pid)], signal.SIGCONT)
        send([pid], stop_signal)
        watch.within(pid, grace_seconds)
    _end_all(watch, pid)
    status = watch.reap().get(pid, -signal.SIGKILL)
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))
