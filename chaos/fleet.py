"""The workers of a run: real processes, started, killed, frozen and stopped; watched all the time.

A worker that ends without having been told to is noted as a finding, and started again.
"""

import asyncio
import itertools
import os
import signal
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.children import ROOT, Child, child

ENTRY = "orchestrator.cli.main:main"
STOP_SECONDS = 45.0
JOINED = b'"worker joined"'


Started = tuple[int, "asyncio.Future[int]"]
"""The new process's pid, and its exit status once it has one (-n: killed by signal n)."""


class ForgeLine:
    """Speaks with the process that forks; one reader, many who wait."""

    def __init__(self, process: Child) -> None:
        self._process = process
        self._started: dict[int, asyncio.Future[Started]] = {}
        self._ended: dict[int, asyncio.Future[int]] = {}
        self._number = 0

    async def fork(self, **asked: Any) -> Started:
        self._number += 1
        future: asyncio.Future[Started] = asyncio.get_running_loop().create_future()
        self._started[self._number] = future
        await self._process.tell({**asked, "number": self._number})
        # Shielded: the reader sets it also when who waited has given up.
        return await asyncio.shield(future)

    async def read(self) -> None:
        """Until cancelled. Where the process is gone, everyone who waits for it hears so."""
        try:
            await self._read()
        except RuntimeError as gone:
            for started in self._started.values():
                started.set_exception(gone)
            for ended in self._ended.values():
                ended.set_exception(gone)
            raise

    async def _read(self) -> None:
        while True:
            said = await self._process.hear()
            if "started" in said:
                ended = asyncio.get_running_loop().create_future()
                self._ended[said["started"]] = ended
                self._started.pop(said["number"]).set_result((said["started"], ended))
            elif "ended" in said:
                self._ended.pop(said["ended"]).set_result(said["status"])


@asynccontextmanager
async def running_forge() -> AsyncIterator[ForgeLine]:
    """Costs two seconds; workers started by it cost a tenth of that."""
    async with child("chaos.forge") as process:
        await process.hear()
        line = ForgeLine(process)
        reading = asyncio.create_task(line.read(), name="forge")
        try:
            yield line
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze:
    """A worker stood still between these times (seconds since 1970)."""

    frozen_at: float
    thawed_at: float


@dataclass(slots=True, kw_only=True)
class Worker:
    """One life of a worker process."""

    name: str
    pid: int
    log: Path
    log_from: int
    ended: "asyncio.Future[int]"
    frozen_at: float | None = None
    """None while it is not frozen."""
    dismissed: bool = False
    """We ended it, or are about to."""
    killed: bool = False
    """By us, perhaps while another fault waited for it to stop."""
    started_at: float = field(default_factory=time.time)

    @property
    def is_running(self) -> bool:
        return not self.ended.done()

    def said(self) -> bytes:
        """What this life has logged."""
        with self.log.open("rb") as log:
            log.seek(self.log_from)
            return log.read()

    def rss_bytes(self) -> int:
        """Memory that it holds right now; 0 when it has ended."""
        with suppress(OSError):
            pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
            return pages * os.sysconf("SC_PAGE_SIZE")
        return 0


class Fleet:
    """The workers by name. Owned by one run; faults call its methods."""

    def __init__(self, forge: ForgeLine, *, environ: Mapping[str, str], folder: Path) -> None:
        self.environ = dict(environ)
        """Of every worker that is started from now on."""
        self.workers: dict[str, Worker] = {}
        self.deaths: list[str] = []
        """Of workers that nobody had ended."""
        self.freezes: list[Freeze] = []
        """Of workers that thawed."""
        self.entry = ENTRY
        self._forge = forge
        self._folder = folder
        self._lives = itertools.count(1)
        self._watched: dict[asyncio.Task[None], Worker] = {}

    async def launch(self, name: str, **environ: str) -> Worker:
        """Starts a worker and waits for nothing. `environ` is its own alone."""
        log = self._folder / f"{name}.log"
        log.touch()
        log_from = log.stat().st_size
        pid, ended = await self._forge.fork(
            environ={**self.environ, "ORCHESTRATOR_WORKER_NAME": name, **environ},
            log=str(log),
            folder=str(self._folder),
            entry=self.entry,
        )
        worker = Worker(name=name, pid=pid, log=log, log_from=log_from, ended=ended)
        self.workers[name] = worker
        watcher = asyncio.create_task(self._watch(worker), name=f"watch {name}")
        self._watched[watcher] = worker
        watcher.add_done_callback(self._watched.pop)
        return worker

    def new_name(self, name: str) -> str:
        """For who follows the worker of this name, and is another one to the product."""
        return f"{stem(name)}~{next(self._lives)}"

    async def joined(self, worker: Worker, *, seconds: float = 60.0) -> None:
        """Returns when it is registered in PostgreSQL, or has ended: another fault may end it."""
        async with asyncio.timeout(seconds):
            while worker.is_running and JOINED not in await asyncio.to_thread(worker.said):
                await asyncio.sleep(0.02)

    def healthy(self) -> list[Worker]:
        """Those that no fault has its hand on."""
        running = self.running()
        return [w for w in running if w.frozen_at is None and not w.dismissed]

    def running(self) -> list[Worker]:
        """Also those that are frozen, or about to end."""
        return [w for w in self.workers.values() if w.is_running]

    async def kill(self, worker: Worker) -> None:
        """SIGKILL."""
        worker.dismissed = worker.killed = True
        self._signal(worker, signal.SIGKILL)
        await self._gone(worker)

    async def stop(self, worker: Worker) -> int:
        """SIGTERM; its exit status."""
        worker.dismissed = True
        self._signal(worker, signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                status = await asyncio.shield(worker.ended)
        except TimeoutError:
            self.deaths.append(f"worker {worker.name} did not end within {STOP_SECONDS:g} s")
            await self.kill(worker)
            return -signal.SIGKILL
        self._forget(worker)
        # Python itself ends by the signal, as long as nothing of ours runs.
        is_before_its_begin = status == -signal.SIGTERM and not worker.said()
        if status != 0 and not worker.killed and not is_before_its_begin:
            self.deaths.append(f"worker {worker.name}: exit status {status} after SIGTERM")
        return status

    def freeze(self, worker: Worker) -> None:
        worker.frozen_at = time.time()
        self._signal(worker, signal.SIGSTOP)

    def thaw(self, worker: Worker) -> None:
        if worker.frozen_at is not None:
            self.freezes.append(Freeze(frozen_at=worker.frozen_at, thawed_at=time.time()))
        worker.frozen_at = None
        self._signal(worker, signal.SIGCONT)

    async def close(self) -> None:
        """Kills all, also one whose name another has taken."""
        for worker in self._watched.values():
            worker.dismissed = True
            self._signal(worker, signal.SIGKILL)
        await asyncio.gather(*self._watched, return_exceptions=True)

    def _signal(self, worker: Worker, number: signal.Signals) -> None:
        if worker.is_running:
            with suppress(ProcessLookupError):
                os.kill(worker.pid, number)

    async def _gone(self, worker: Worker) -> None:
        async with asyncio.timeout(STOP_SECONDS):
            await asyncio.shield(worker.ended)
        self._forget(worker)

    def _forget(self, worker: Worker) -> None:
        if self.workers.get(worker.name) is worker:
            del self.workers[worker.name]

    async def _watch(self, worker: Worker) -> None:
        status = await asyncio.shield(worker.ended)
        if worker.dismissed:
            return
        tail = (await asyncio.to_thread(worker.said))[-600:].decode(errors="replace")
        self.deaths.append(f"worker {worker.name} ended by itself, exit status {status}: {tail}")
        self._forget(worker)
        await self.launch(worker.name)


def stem(name: str) -> str:
    """What the names of a worker and of those who followed it have in common."""
    return name.partition("~")[0]


def root_environment() -> dict[str, str]:
    """Nothing of the caller's own settings."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {**kept, "PYTHONPATH": str(ROOT)}
