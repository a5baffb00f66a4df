"""Forks workers: a process that has imported the product once, so that a start costs no imports.

    python -m chaos.forge

Reads one JSON line a worker on standard input and answers with its pid; each end is told by a line
too. A child runs the very main that `orchestrator worker` runs, with its own environment, folder
and log. When standard input ends, or this process does, so do all children.
"""

import ctypes
import gc
import importlib
import os
import select
import signal
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

# All that a worker loads, also what it loads late: a fork shares it.
PRELOADED = ("orchestrator.cli.worker", "langchain_openai", "uvicorn.protocols.http.h11_impl")
COMMAND = ("orchestrator", "worker")
_PR_SET_PDEATHSIG = 1


class Forge:
    """Owned by `main`; single-threaded, as whoever forks has to be."""

    def __init__(self) -> None:
        self._children: set[int] = set()
        self._woken, wake = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _signum, _frame: None)

    def serve(self) -> None:
        """Returns when standard input ends."""
        asked = b""
        while True:
            readable, _, _ = select.select([0, self._woken], [], [])
            with suppress(BlockingIOError):
                os.read(self._woken, 512)
            self._reap()
            if 0 not in readable:
                continue
            more = os.read(0, 65_536)
            if not more:
                return
            *lines, asked = (asked + more).split(b"\n")
            for line in lines:
                self._start(orjson.loads(line))

    def end(self) -> None:
        for pid in self._children:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        while self._children:
            self._children.discard(os.wait()[0])

    def _start(self, asked: dict[str, Any]) -> None:
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            _become(asked, parent=parent)
        self._children.add(pid)
        _say({"started": pid, "number": asked["number"]})

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                self._children.discard(pid)
                _say({"ended": pid, "status": os.waitstatus_to_exitcode(status)})


def _become(asked: dict[str, Any], *, parent: int) -> None:
    """In the child: a worker. Never returns."""
    code = 1
    try:
        os.setsid()
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _redirect(Path(asked["log"]))
        os.chdir(asked["folder"])  # a worker reads the `.env` of where it is started
        os.environ.clear()
        os.environ.update(asked["environ"])
        sys.argv = list(COMMAND)
        module, _, name = asked["entry"].partition(":")
        getattr(importlib.import_module(module), name)()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 - the outermost frame of a process: its log has the reason
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _redirect(log: Path) -> None:
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.closerange(3, 256)


def _say(line: dict[str, Any]) -> None:
    os.write(1, orjson.dumps(line) + b"\n")


def main() -> None:
    for module in PRELOADED:
        importlib.import_module(module)
    # What is shared stays shared: the collector would write into every page of it.
    gc.collect()
    gc.freeze()
    forge = Forge()
    _say({"ready": os.getpid()})
    try:
        forge.serve()
    finally:
        forge.end()


if __name__ == "__main__":
    main()
