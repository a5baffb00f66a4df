"""The product as it runs in production: its worker process between Kafka and PostgreSQL.

Started as `orchestrator worker` with an environment, spoken to through its topics alone.
"""

import asyncio
import os
import random
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from bench.children import ROOT
from bench.cpu import tree_cpu_seconds
from bench.figures import PRODUCT, Round
from bench.workload import (
    AGENTS_FOLDER,
    CONCURRENCY,
    MODEL,
    STUB_VARIABLE,
    WrongWork,
    task_id,
    task_message,
)
from orchestrator.bus.options import Topics
from orchestrator.local.ports import keep_ports
from orchestrator.local.process import ChildProcess, Command
from orchestrator.local.stack import LocalServers
from orchestrator.store import migrations

START_SECONDS = 60.0
QUIET_SECONDS = 30.0
"""Without any update for so long, tasks are taken for lost."""
PAUSE_SECONDS = (0.005, 0.03)
"""Between tasks that run alone; random, so that no poll of the worker falls into step."""

ENDS = {f"orchestrator.task.{end}.v1".encode() for end in ("completed", "failed", "cancelled")}
COMPLETED = b"orchestrator.task.completed.v1"


class Service:
    """A running worker with its servers, and clients of its topics. Made by `service`."""

    def __init__(self, servers: LocalServers, worker: ChildProcess, *, metrics_url: str) -> None:
        self._servers = servers
        self._worker = worker
        self._metrics_url = metrics_url

    async def open(self, stack: AsyncExitStack) -> None:
        """Connects the clients; updates are read from here on."""
        address = {"bootstrap_servers": self._servers.bootstrap_servers}
        self._producer = AIOKafkaProducer(**address, acks="all")
        stack.push_async_callback(self._producer.stop)
        await self._producer.start()
        self._consumer = AIOKafkaConsumer(**address, enable_auto_commit=False)
        stack.push_async_callback(self._consumer.stop)
        await self._consumer.start()
        topic = Topics().task_updates
        partitions = await self._producer.partitions_for(topic)
        self._consumer.assign([TopicPartition(topic, number) for number in partitions])
        await self._consumer.seek_to_end()

    async def round(self, numbers: range) -> Round:
        """Publishes them all at once and waits until each is completed."""
        before, began = self._cpu_seconds(), time.perf_counter()
        for number in numbers:
            await self._publish(number)
        await self._completed(numbers)
        seconds, after = time.perf_counter() - began, self._cpu_seconds()
        used = {name: after[name] - before[name] for name in before}
        return Round(side=PRODUCT, tasks=len(numbers), seconds=seconds, cpu_seconds=used)

    async def alone(self, numbers: range) -> dict[str, int]:
        """One task at a time, on an idle worker: when each was published, in ns of wall clock."""
        published = {}
        for number in numbers:
            await asyncio.sleep(random.uniform(*PAUSE_SECONDS))
            published[str(number)] = time.time_ns()
            await self._publish(number)
            await self._completed([number])
        return published

    async def metrics(self) -> str:
        """The worker's metrics as it exposes them."""
        return (await asyncio.to_thread(get, f"{self._metrics_url}/metrics")).decode()

    async def is_ready(self) -> bool:
        try:
            await asyncio.to_thread(get, f"{self._metrics_url}/readyz")
        except OSError:
            return False
        return True

    async def _publish(self, number: int) -> None:
        await self._producer.send(
            Topics().tasks, key=task_id(number).encode(), value=task_message(number)
        )

    async def _completed(self, numbers: Iterable[int]) -> None:
        left = {task_id(number).encode() for number in numbers}
        while left:
            polled = await self._consumer.getmany(timeout_ms=int(QUIET_SECONDS * 1000))
            if not polled:
                raise WrongWork(self._says(f"{len(left)} tasks did not end"))
            for record in (r for records in polled.values() for r in records):
                end = dict(record.headers).get("ce_type")
                if end not in ENDS:
                    continue
                if end != COMPLETED:
                    raise WrongWork(
                        self._says(f"{record.key!r} did not complete: {record.value!r}")
                    )
                left.discard(record.key)

    def _says(self, text: str) -> str:
        return "\n".join([text, "The worker's last lines:", *self._worker.last_lines()])

    def _cpu_seconds(self) -> dict[str, float]:
        assert self._servers.postgres is not None
        assert self._servers.kafka is not None
        return {
            "loop": tree_cpu_seconds(self._worker.pid),
            "postgres": tree_cpu_seconds(self._servers.postgres.process.pid),
            "kafka": tree_cpu_seconds(self._servers.kafka.process.pid),
        }


def get(url: str) -> bytes:
    """The body of a page of our own. Raises OSError."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        body: bytes = answer.read()
    return body


@asynccontextmanager
async def service(
    servers: LocalServers, *, data_dir: Path, stub_url: str
) -> AsyncIterator[Service]:
    """A worker that is ready for tasks; it is stopped by SIGTERM at the end."""
    await asyncio.to_thread(migrations.upgrade, servers.database_url)
    port = keep_ports(data_dir / "ports.json", ["worker"])["worker"]
    environment = _environment(servers, port=port, stub_url=stub_url)
    worker = ChildProcess(
        Command(
            name="the worker",
            argv=(sys.executable, "-m", "orchestrator", "worker"),
            env=environment,
        ),
        log=data_dir / "worker.log",
    )
    async with AsyncExitStack() as stack:
        stack.push_async_callback(worker.stop, grace_seconds=40)
        await worker.start()
        running = Service(servers, worker, metrics_url=f"http://127.0.0.1:{port}")
        await worker.wait_until(running.is_ready, within_seconds=START_SECONDS)
        await running.open(stack)
        yield running


def _environment(servers: LocalServers, *, port: int, stub_url: str) -> dict[str, str]:
    """Nothing of the caller's own settings: what is measured are the defaults."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "DATABASE_URL": servers.database_url,
        "KAFKA_BOOTSTRAP_SERVERS": servers.bootstrap_servers,
        "OPENAI_BASE_URL": f"{stub_url}/v1",
        "OPENAI_API_KEY": "bench",
        "LLM_MODEL": MODEL,
        "ORCHESTRATOR_CONCURRENCY": str(CONCURRENCY),
        "ORCHESTRATOR_AGENTS_DIR": str(AGENTS_FOLDER),
        "ORCHESTRATOR_WORKER_NAME": "bench",
        "PORT": str(port),
        STUB_VARIABLE: stub_url,
        "ORCHESTRATOR_DECLARATION_VARIABLES": STUB_VARIABLE,
    }
