"""Kafka and PostgreSQL side by side: ours as child processes, or others that are there."""

import asyncio
import stat
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from orchestrator.local.kafka import LocalKafka, say_to_stderr
from orchestrator.local.postgres import LocalPostgres
from orchestrator.local.postgres_account import account_for_postgres

DATABASE = "orchestrator"


class LocalServers:
    """What a worker needs to run. Where an address is given, that server is used and left alone."""

    def __init__(
        self,
        data_dir: Path,
        *,
        kafka_bootstrap_servers: str | None = None,
        database_url: str | None = None,
        say: Callable[[str], None] = say_to_stderr,
    ) -> None:
        self.kafka = None if kafka_bootstrap_servers else LocalKafka(data_dir / "kafka", say=say)
        """Ours; None when another one is used."""
        self.postgres = None if database_url else LocalPostgres(data_dir / "postgres")
        """Ours; None when another one is used."""
        self._data_dir = data_dir
        self._bootstrap_servers = kafka_bootstrap_servers
        self._database_url = database_url

    @property
    def bootstrap_servers(self) -> str:
        if self.kafka is not None:
            return self.kafka.bootstrap_servers
        assert self._bootstrap_servers
        return self._bootstrap_servers

    @property
    def database_url(self) -> str:
        if self.postgres is not None:
            return self.postgres.dsn(DATABASE)
        assert self._database_url
        return self._database_url

    async def start(self) -> None:
        """Returns when both serve and the database is there. Leaves nothing running if one fails.

        Raises:
            LocalServerError: one could not start.
        """
        if self.kafka is not None or self.postgres is not None:
            close_folder(self._data_dir)
        async with AsyncExitStack() as on_failure:
            on_failure.push_async_callback(self.stop)
            # Not a task group: its error would be a tree of tracebacks, and one line is wanted.
            for failure in await asyncio.gather(
                self._start_kafka(), self._start_postgres(), return_exceptions=True
            ):
                if failure is not None:
                    raise failure
            on_failure.pop_all()

    async def stop(self) -> None:
        """Stops what is ours."""
        async with asyncio.TaskGroup() as both:
            for server in (self.kafka, self.postgres):
                if server is not None:
                    both.create_task(server.stop())

    async def _start_kafka(self) -> None:
        if self.kafka is not None:
            await self.kafka.start()

    async def _start_postgres(self) -> None:
        if self.postgres is not None:
            await self.postgres.start()
            if not await self.postgres.has_database(DATABASE):
                await self.postgres.create_database(DATABASE)


def close_folder(folder: Path) -> None:
    """Messages, logs and ports in it are ours alone, also those of an earlier release.

    Root's is let through, or PostgreSQL's own account could not enter its cluster; below it each
    folder is closed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for inner in (folder / name for name in ("kafka", "logs", "postgres")):
        if not inner.exists():
            inner.mkdir()
        if inner.is_dir():
            inner.chmod(stat.S_IRWXU)
    passes = stat.S_IXGRP | stat.S_IXOTH if account_for_postgres() else 0
    folder.chmod(stat.S_IRWXU | passes)
