"""PostgreSQL as a child process: one cluster whose data and port outlive the run."""

import asyncio
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

from orchestrator.local.errors import LocalServerError
from orchestrator.local.ports import LOOPBACK, keep_ports
from orchestrator.local.postgres_account import account_for_postgres, find_binaries, own_folder
from orchestrator.local.postgres_login import SUPERUSER, kept_password, require_password
from orchestrator.local.process import Account, ChildProcess, Command, locked_folder

_START_SECONDS = 60
_STOP_SECONDS = 15
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")

_SETTINGS = {
    "listen_addresses": LOOPBACK,
    # A socket's path may have 107 bytes, which a data folder deep down exceeds; nothing needs one.
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "wal_level": "replica",
    "max_wal_size": "512MB",
    # In the data folder, not in /dev/shm: containers give that 64 MB, and a kill leaves rubbish.
    "dynamic_shared_memory_type": "mmap",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
# Not `synchronous_commit`: without it a killed server forgets what it acknowledged.
_NOT_DURABLE = {"fsync": "off", "full_page_writes": "off"}


class LocalPostgres:
    """One server on loopback. `start` returns when it answers queries.

    What was committed survives `kill`. With `durable=False` it also does (the operating system
    still has it), but not the machine's own end: for tests.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int | None = None,
        durable: bool = True,
        extra_settings: Mapping[str, str] | None = None,
    ) -> None:
        """`port` None: a free one, kept from run to run. `extra_settings` win over ours."""
        self._folder = data_dir
        self._wanted_port = port
        self._durable = durable
        self._settings = _SETTINGS | ({} if durable else _NOT_DURABLE) | dict(extra_settings or {})
        self._port: int | None = None
        self._binaries: Path | None = None
        self._process: ChildProcess | None = None

    @property
    def port(self) -> int:
        if self._port is None:
            raise LocalServerError("PostgreSQL was not started; its port is known after that")
        return self._port

    def dsn(self, database: str) -> str:
        """The URL of a database, with the superuser's password in it."""
        password = kept_password(self._folder)
        return f"postgresql://{SUPERUSER}:{password}@{LOOPBACK}:{self.port}/{database}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.running

    @property
    def process(self) -> ChildProcess:
        """The postmaster, for who wants to signal or to watch it. Raises before the first start."""
        if self._process is None:
            raise LocalServerError("PostgreSQL was not started")
        return self._process

    @property
    def binaries(self) -> Path:
        """The folder of `psql`, `pg_basebackup`, `pgbench` and the rest."""
        if self._binaries is None:
            raise LocalServerError("PostgreSQL was not started")
        return self._binaries

    async def start(self) -> None:
        if self.running:
            return
        account = account_for_postgres()
        self._binaries = binaries = await asyncio.to_thread(find_binaries, account)
        async with AsyncExitStack() as undo:
            held = await undo.enter_async_context(locked_folder(self._folder, within_seconds=15))
            home = own_folder(self._folder / "postgres", account)
            cluster = home / "cluster"
            await self._initialise_once(cluster, account)
            await require_password(
                self._folder, cluster, lambda sql: _run_single(binaries, cluster, sql, account)
            )
            self._port = self._choose_port()
            process = ChildProcess(
                Command(
                    name="PostgreSQL",
                    argv=(str(binaries / "postgres"), "-D", str(cluster), *self._options()),
                    env=_environment(),
                    account=account,
                    # "Fast": open transactions are rolled back, nobody is waited for.
                    stop_signal=signal.SIGINT,
                ),
                log=self._folder / "postgres.log",
            )
            self._process = process
            async with AsyncExitStack() as on_failure:
                on_failure.push_async_callback(process.kill)
                await process.start(holding=held)
                await process.wait_until(
                    lambda: _accepts(cluster, process), within_seconds=_START_SECONDS
                )
                on_failure.pop_all()

    async def stop(self) -> None:
        """Rolls back what is open, writes a checkpoint, ends."""
        if self._process is not None:
            await self._process.stop(grace_seconds=_STOP_SECONDS)

    async def kill(self) -> None:
        """SIGKILL for the server and every backend."""
        await self.process.kill()

    async def restart(self, *, immediate: bool = False) -> None:
        """Stops and starts it; `immediate` skips the checkpoint, so that it has to recover."""
        if immediate and self._process is not None:
            await self._process.stop(grace_seconds=_STOP_SECONDS, by=signal.SIGQUIT)
        await self.stop()
        await self.start()

    def freeze(self) -> None:
        """SIGSTOP for the server and every backend: connections stay, nobody answers."""
        self.process.freeze()

    def thaw(self) -> None:
        self.process.thaw()

    async def create_database(self, name: str, *, template: str | None = None) -> str:
        """Creates a database and gives its URL. Nobody may be connected to `template`."""
        copying = f" TEMPLATE {_quoted(template)} STRATEGY FILE_COPY" if template else ""
        await self.execute(f"CREATE DATABASE {_quoted(name)}{copying}")
        return self.dsn(name)

    async def drop_database(self, name: str) -> None:
        """Drops it if it is there; whoever is connected to it is cut off."""
        await self.execute(f"DROP DATABASE IF EXISTS {_quoted(name)} WITH (FORCE)")

    async def has_database(self, name: str) -> bool:
        _quoted(name)
        found = await self.execute(f"SELECT 1 FROM pg_database WHERE datname = '{name}'")  # noqa: S608
        return found == "1"

    async def execute(self, sql: str, *, database: str = "postgres") -> str:
        """Runs one statement as the superuser through `psql`; gives its rows as bare text."""
        where = ("-h", LOOPBACK, "-p", str(self.port), "-U", SUPERUSER, "-d", database)
        options = ("-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql)
        # Not in a URL: a command line is the world's to read, an environment is not.
        login = {"PGPASSWORD": kept_password(self._folder) or ""}
        return (await _run((str(self.binaries / "psql"), *where, *options), env=login)).strip()

    def _options(self) -> tuple[str, ...]:
        settings = {**self._settings, "port": str(self.port)}
        return tuple(part for name in settings for part in ("-c", f"{name}={settings[name]}"))

    def _choose_port(self) -> int:
        kept = self._folder / "ports.json"
        return keep_ports(kept, ("postgres",), wanted=self._wanted_port)["postgres"]

    async def _initialise_once(self, cluster: Path, account: Account | None) -> None:
        if _is_there(cluster):
            return
        # Made beside its place and moved there when it is whole: a kill leaves no half of one.
        unfinished = cluster.with_name("unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        options = ["--auth=trust", f"--username={SUPERUSER}", "--encoding=UTF8", "--locale=C"]
        options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        options += [] if self._durable else ["--no-sync"]
        argv = (str(self.binaries / "initdb"), *options, "-D", str(unfinished))
        await _run(argv, account=account)
        unfinished.rename(cluster)


def _is_there(folder: Path) -> bool:
    return folder.exists()


async def _run_single(binaries: Path, cluster: Path, sql: str, account: Account | None) -> None:
    argv = (str(binaries / "postgres"), "--single", "-D", str(cluster), "postgres")
    await _run(argv, account=account, stdin=sql)


async def _run(
    argv: tuple[str, ...],
    *,
    account: Account | None = None,
    stdin: str = "",
    env: Mapping[str, str] | None = None,
) -> str:
    # In a thread: uvloop's own subprocesses can't take another account.
    ran = await asyncio.to_thread(
        subprocess.run,
        argv,
        input=stdin.encode(),
        capture_output=True,
        env={**_environment(), **(env or {})},
        cwd="/",
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
        check=False,
    )
    if ran.returncode != 0:
        raise LocalServerError(
            f"{Path(argv[0]).name} failed (exit status {ran.returncode}): "
            + (ran.stderr or ran.stdout).decode(errors="replace").strip()
        )
    return ran.stdout.decode()


def _environment() -> dict[str, str]:
    # Not ours: PGHOST, PGPASSWORD, PGSERVICE and the like would send psql elsewhere.
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "PGCONNECT_TIMEOUT": "10"}


async def _accepts(cluster: Path, process: ChildProcess) -> bool:
    """What pg_ctl waits for: the server says `ready` in its own pid file (line 1 and line 8)."""
    try:
        lines = (cluster / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return False
    # A killed server leaves its file behind, still `ready`, with its own pid.
    return (
        process.running
        and len(lines) >= 8
        and lines[0].strip() == str(process.pid)
        and lines[7].strip() == "ready"
    )


def _quoted(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} can't name a database: use lower-case letters, digits and _, at most 63"
        )
    return f'"{name}"'
