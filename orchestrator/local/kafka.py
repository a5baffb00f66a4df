"""Apache Kafka as a child process: one KRaft node whose data and ports outlive the run."""

import asyncio
import shutil
import sys
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

from orchestrator.local import kafka_settings
from orchestrator.local.errors import LocalServerError
from orchestrator.local.java import find_java
from orchestrator.local.kafka_jars import class_path, default_cache, read_lock
from orchestrator.local.kafka_probe import serves
from orchestrator.local.kafka_settings import Listeners
from orchestrator.local.ports import LOOPBACK, keep_ports
from orchestrator.local.process import ChildProcess, Command, locked_folder

_START_SECONDS = 60
_STOP_SECONDS = 15


def say_to_stderr(line: str) -> None:
    sys.stderr.write(line + "\n")


class LocalKafka:
    """One node. `start` returns when it takes writes; what was acknowledged survives `kill`."""

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int | None = None,
        proxy_port: int | None = None,
        extra_properties: Mapping[str, str] | None = None,
        cache: Path | None = None,
        say: Callable[[str], None] = say_to_stderr,
    ) -> None:
        """`port` is for clients (None: a free one, kept from run to run).

        Who comes by the `detour` is told that the node is at `proxy_port`, where a proxy may
        be: Kafka's clients go where they are told.

        `extra_properties` go into server.properties and win, for TLS or SASL on the listener
        `CLIENT`. `say` is given the lines about a download.
        """
        self._folder = data_dir
        self._wanted_port = port
        self._proxy_port = proxy_port
        self._extra = dict(extra_properties or {})
        self._lock = read_lock()
        self._cache = cache or default_cache(self._lock)
        self._say = say
        self._listeners: Listeners | None = None
        self._process: ChildProcess | None = None

    @property
    def bootstrap_servers(self) -> str:
        if self._listeners is None:
            raise LocalServerError("Kafka was not started; its port is known after that")
        return f"{LOOPBACK}:{self._listeners.client}"

    @property
    def detour(self) -> tuple[int, int] | None:
        """Where a proxy may listen, and where it has to go on to; None without a `proxy_port`."""
        if self._listeners is None or self._listeners.proxied is None:
            return None
        assert self._proxy_port is not None
        return self._proxy_port, self._listeners.proxied

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.running

    @property
    def process(self) -> ChildProcess:
        """The JVM, for who wants to signal or to watch it. Raises before the first start."""
        if self._process is None:
            raise LocalServerError("Kafka was not started")
        return self._process

    async def start(self) -> None:
        if self.running:
            return
        java = await find_java()
        jars = await class_path(self._lock, cache=self._cache, say=self._say)
        run = (str(java), *kafka_settings.JVM_OPTIONS, *self._java_options(jars))
        async with AsyncExitStack() as undo:
            held = await undo.enter_async_context(locked_folder(self._folder, within_seconds=15))
            listeners = self._configure()
            await self._format_once(run)
            process = ChildProcess(
                Command(name="Kafka", argv=(*run, "kafka.Kafka", str(self._properties))),
                log=self._folder / "kafka.log",
            )
            self._listeners, self._process = listeners, process
            async with AsyncExitStack() as on_failure:
                on_failure.push_async_callback(process.kill)
                await process.start(holding=held)
                await process.wait_until(
                    lambda: serves(LOOPBACK, listeners.internal), within_seconds=_START_SECONDS
                )
                on_failure.pop_all()

    async def stop(self) -> None:
        if self._process is not None:
            await self._process.stop(grace_seconds=_STOP_SECONDS)

    async def kill(self) -> None:
        """SIGKILL."""
        await self.process.kill()

    async def restart(self) -> None:
        """Stops and starts it on the same data and, unless they were taken meanwhile, ports."""
        await self.stop()
        await self.start()

    def freeze(self) -> None:
        """SIGSTOP: connections stay open and nobody answers, until `thaw`."""
        self.process.freeze()

    def thaw(self) -> None:
        self.process.thaw()

    @property
    def _properties(self) -> Path:
        return self._folder / "server.properties"

    def _java_options(self, jars: tuple[Path, ...]) -> tuple[str, ...]:
        return (
            f"-Dlog4j2.configurationFile={self._folder / 'log4j2.properties'}",
            "-cp",
            ":".join(map(str, jars)),
        )

    def _configure(self) -> Listeners:
        proxied = () if self._proxy_port is None else ("proxied",)
        ports = keep_ports(
            self._folder / "ports.json",
            ("client", "internal", "controller", *proxied),
            wanted=self._wanted_port,
        )
        listeners = Listeners(**ports, proxy=self._proxy_port)
        properties = kafka_settings.server_properties(
            listeners, log_dir=self._folder / "logs", extra=self._extra
        )
        self._properties.write_text(kafka_settings.as_file(properties))
        # It may hold passwords, for SASL.
        self._properties.chmod(0o600)
        (self._folder / "log4j2.properties").write_text(kafka_settings.LOG4J)
        return listeners

    async def _format_once(self, run: tuple[str, ...]) -> None:
        formatted = self._folder / "formatted"
        if formatted.exists():
            return
        shutil.rmtree(self._folder / "logs", ignore_errors=True)  # of a run that was killed
        cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        tool = await asyncio.create_subprocess_exec(
            *run,
            # With `=`: one id in 64 begins with a dash, and would be taken for an option.
            *("kafka.tools.StorageTool", "format", f"--cluster-id={cluster_id}"),
            *("-c", str(self._properties)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await tool.communicate()
        if tool.returncode != 0:
            raise LocalServerError(
                f"Kafka's storage in {str(self._folder)!r} could not be formatted:\n"
                + said.decode(errors="replace")
            )
        formatted.write_text(cluster_id)
