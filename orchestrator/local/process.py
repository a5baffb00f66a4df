"""A child process that never outlives us: start, wait until ready, stop, kill, freeze, thaw.

The child runs below a small guard (`guard.py`) that ends it, and all it started, when we are gone,
also when we are gone by SIGKILL.
"""

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from orchestrator.local import guard
from orchestrator.local.errors import LocalServerError

_LOG_LIMIT_BYTES = 8 * 1024 * 1024
_TAIL_BYTES = 8 * 1024
_POLL_SECONDS = 0.02
_ORPHAN_GRACE_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The operating system's user that a child runs as."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What a child runs, and how it likes to be stopped."""

    name: str
    """For messages, as a person calls it: `PostgreSQL`."""
    argv: tuple[str, ...]
    env: Mapping[str, str] | None = None
    """The whole environment; None is ours."""
    account: Account | None = None
    stop_signal: signal.Signals = signal.SIGTERM


@asynccontextmanager
async def locked_folder(folder: Path, *, within_seconds: float) -> AsyncIterator[int]:
    """Holds a folder for one process; gives the lock's descriptor, for `ChildProcess.start`.

    A child that was given the descriptor goes on holding the lock until it has ended, so a new run
    waits for the last one's servers even when that run was killed.
    """
    lock = _open_lock(folder)
    try:
        deadline = time.monotonic() + within_seconds
        while not _try_lock(lock):
            if time.monotonic() > deadline:
                raise LocalServerError(
                    f"{str(folder)!r} is in use by another process that did not let go within "
                    f"{within_seconds:g} s; stop that one first, or use another folder"
                )
            await asyncio.sleep(_POLL_SECONDS)
        yield lock
    finally:
        os.close(lock)


def _open_lock(folder: Path) -> int:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise LocalServerError(
            f"can't write to the folder {str(folder)!r}: {error.strerror}; choose another, or give "
            "its owner's rights to this user"
        ) from error


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class ChildProcess:
    """One child at a time; after it ended, `start` starts it anew. All methods may be repeated."""

    def __init__(self, command: Command, *, log: Path) -> None:
        self.command = command
        self.log = log
        self.exit_status: int | None = None
        """Of the last run; 128 + n when signal n ended it. None before it ended."""
        self._guard: subprocess.Popen[bytes] | None = None
        self._pid: int | None = None
        self._log_start = 0

    @property
    def pid(self) -> int:
        """Of the command itself, not of its guard. Raises when it does not run."""
        if self._pid is None or not self.running:
            raise LocalServerError(f"{self.command.name} is not running")
        return self._pid

    @property
    def running(self) -> bool:
        if self._guard is None:
            return False
        status = self._guard.poll()
        if status is None:
            return True
        self._forget(self._guard, status)
        return False

    async def start(self, *, holding: int | None = None) -> None:
        """Starts the command; `holding` is a descriptor that its guard keeps open to its end."""
        if self.running:
            return
        started = self._spawn(holding)
        assert started.stdout is not None
        first_line = await asyncio.to_thread(started.stdout.readline)
        if not first_line:
            await self.wait()
            raise LocalServerError(f"{self.command.name} could not start." + self._log_says())
        self._pid = int(first_line)

    async def wait_until(
        self, ready: Callable[[], Awaitable[bool]], *, within_seconds: float
    ) -> None:
        """Returns once `ready` says so. Raises, with the log's last lines, at an early exit."""
        deadline = time.monotonic() + within_seconds
        while not await ready():
            if not self.running:
                raise LocalServerError(
                    f"{self.command.name} ended while starting (exit status {self.exit_status})."
                    + self._log_says()
                )
            if time.monotonic() > deadline:
                raise LocalServerError(
                    f"{self.command.name} was not ready within {within_seconds:g} s."
                    + self._log_says()
                )
            await asyncio.sleep(_POLL_SECONDS)

    async def wait(self) -> int:
        """The exit status, once the command and everything that it started have ended."""
        while self.running:  # noqa: ASYNC110  (the kernel is asked; no event can be awaited)
            await asyncio.sleep(_POLL_SECONDS)
        if self.exit_status is None:
            raise LocalServerError(f"{self.command.name} was never started")
        return self.exit_status

    async def stop(self, *, grace_seconds: float = 10, by: signal.Signals | None = None) -> None:
        """Asks it to end (by its own stop signal, or `by`), and kills it after the grace."""
        if not self.running:
            return
        self.thaw()
        self._send(by or self.command.stop_signal)
        try:
            async with asyncio.timeout(grace_seconds):
                await self.wait()
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """SIGKILL, with all that it started: nothing is flushed, nobody says goodbye."""
        if self.running:
            self._send(signal.SIGKILL)
            await self.wait()

    def freeze(self) -> None:
        """Stops the clock for it and all that it started: connections stay open, nobody answers."""
        guard.send([self.pid], signal.SIGSTOP)  # first, so that it starts nothing meanwhile
        frozen: set[int] = set()
        while new := set(guard.descendants(self.pid)) - frozen:
            guard.send(list(new), signal.SIGSTOP)
            frozen |= new

    def thaw(self) -> None:
        """Lets it go on after `freeze`; nothing happens when it was not frozen or does not run."""
        if self._pid is not None:
            guard.send([*guard.descendants(self._pid), self._pid], signal.SIGCONT)

    def last_lines(self, count: int = 15) -> list[str]:
        """The end of what this run has written to its log."""
        try:
            with self.log.open("rb") as log:
                size = log.seek(0, os.SEEK_END)
                log.seek(max(self._log_start, size - _TAIL_BYTES))
                return log.read().decode(errors="replace").splitlines()[-count:]
        except FileNotFoundError:
            return []

    def _send(self, signum: signal.Signals) -> None:
        if self._pid is not None:
            guard.send([self._pid], signum)
        elif self._guard is not None and self._guard.stdin is not None:
            # `start` was cancelled before it heard the pid. The guard takes this for our end.
            self._guard.stdin.close()

    def _log_says(self) -> str:
        lines = self.last_lines()
        if not lines:
            return f" It wrote nothing to {str(self.log)!r}."
        return f" The last lines of {str(self.log)!r}:\n  " + "\n  ".join(lines)

    def _spawn(self, holding: int | None) -> subprocess.Popen[bytes]:
        log = self._open_log()
        try:
            started = subprocess.Popen(  # noqa: S603  (the command is ours, no shell reads it)
                self._guarded(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self.command.env,
                start_new_session=True,
                pass_fds=() if holding is None else (holding,),
            )
        finally:
            os.close(log)
        self._guard, self._pid, self.exit_status = started, None, None
        return started

    def _guarded(self) -> list[str]:
        account = self.command.account
        return [
            # -I and -S: no site-packages, no PYTHON* settings; up in 20 ms.
            *(sys.executable, "-I", "-S", guard.__file__),
            *(str(int(self.command.stop_signal)), str(_ORPHAN_GRACE_SECONDS)),
            *((str(account.uid), str(account.gid)) if account else ("-1", "-1")),
            *self.command.argv,
        ]

    def _open_log(self) -> int:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.log.exists() and self.log.stat().st_size > _LOG_LIMIT_BYTES:
            self.log.replace(self.log.with_suffix(".old"))
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._log_start = os.fstat(log).st_size
        return log

    def _forget(self, ended: subprocess.Popen[bytes], status: int) -> None:
        assert ended.stdin is not None
        assert ended.stdout is not None
        ended.stdin.close()
        ended.stdout.close()
        self._guard, self._pid, self.exit_status = None, None, status
