import asyncio
import os
import stat
from pathlib import Path

import asyncpg

from orchestrator.local.errors import LocalServerError
from orchestrator.local.stack import LocalServers
from tests.fixtures.servers import KafkaServer, PostgresServer


async def test_both_start_side_by_side_and_the_database_is_there(server_folder: Path) -> None:
    servers = LocalServers(server_folder / "stack")
    await servers.start()

    connection = await asyncpg.connect(servers.database_url)
    assert await connection.fetchval("SELECT current_database()") == "orchestrator"
    await connection.close()
    host, _, port = servers.bootstrap_servers.partition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.close()
    await servers.stop()


async def test_other_accounts_can_read_nothing_of_it(server_folder: Path) -> None:
    folder = server_folder / "closed"
    (folder / "kafka").mkdir(parents=True)
    (folder / "kafka" / "old.log").write_text("a message of an earlier release")
    servers = LocalServers(folder)
    await servers.start()
    passes = 0o011 if os.geteuid() == 0 else 0
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())}
    assert modes == {
        "closed": 0o700 | passes,
        "kafka": 0o700,
        "logs": 0o700,
        "postgres": 0o700 | passes,
    }
    readable = [p.name for p in (folder / "postgres").iterdir() if p.stat().st_mode & 0o044]
    assert readable == ["ports.json"]
    await servers.stop()


async def test_servers_that_are_given_are_used_and_left_alone(
    server_folder: Path, kafka: KafkaServer, postgres: PostgresServer
) -> None:
    servers = LocalServers(
        server_folder / "unused",
        kafka_bootstrap_servers=kafka.bootstrap_servers,
        database_url=postgres.dsn("postgres"),
    )

    await servers.start()
    await servers.stop()

    assert servers.bootstrap_servers == kafka.bootstrap_servers
    assert servers.database_url == postgres.dsn("postgres")
    assert not (server_folder / "unused").exists()


async def test_when_one_fails_the_other_is_stopped(server_folder: Path) -> None:
    folder = server_folder / "half"
    folder.mkdir()
    (folder / "kafka").write_text("a file where Kafka wants a folder")
    servers = LocalServers(folder)
    failed = False

    try:
        await servers.start()
    except LocalServerError as error:
        failed = "kafka" in str(error)

    assert failed
    assert servers.postgres is not None
    assert not servers.postgres.running
