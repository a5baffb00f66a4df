"""A PostgreSQL that may have forgotten commits: no worker that remembers them goes on."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from orchestrator.local.postgres import LocalPostgres
from orchestrator.store.migrations import upgrade
from tests.crash.conftest import furnished
from tests.fixtures.servers import KafkaServer
from tests.fixtures.service import new_service


@pytest_asyncio.fixture(loop_scope="session")
async def server(server_folder: Path) -> AsyncIterator[LocalPostgres]:
    """One whose timeline may change."""
    folder = server_folder / "failover"
    folder.mkdir(mode=0o711)
    server = LocalPostgres(folder)
    await server.start()
    yield server
    await server.stop()
    shutil.rmtree(folder)


async def fail_over(server: LocalPostgres) -> None:
    """As a replica that is promoted: the same address, a new timeline."""
    cluster = await server.execute("SHOW data_directory")
    await server.stop()
    _make_replica(Path(cluster))
    await server.start()
    await server.execute("SELECT pg_promote()")


def _make_replica(cluster: Path) -> None:
    role, owner = cluster / "standby.signal", cluster.stat()
    role.touch()
    os.chown(role, owner.st_uid, owner.st_gid)


async def test_a_worker_ends_when_a_replica_took_over_and_goes_on_when_it_is_started_again(
    kafka: KafkaServer, server: LocalPostgres, tmp_path: Path
) -> None:
    url = await server.create_database("empty")
    await asyncio.to_thread(upgrade, url)
    async with new_service(kafka, server, template="empty", folder=tmp_path) as service:
        office = await furnished(service)
        worker = await office.worker("worker").start()
        tasks = await office.publish(100)
        await office.progress(20)

        await fail_over(server)
        assert await worker.ended() == 1
        assert "a replica took over" in worker.log.read_text()
        assert "Traceback" not in worker.log.read_text()

        office.observer.renew_connection(service.place.database_url)
        await worker.start()
        await office.check(*tasks)
