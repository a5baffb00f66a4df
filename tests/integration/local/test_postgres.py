import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from orchestrator.local.errors import LocalServerError
from orchestrator.local.postgres import LocalPostgres


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def server(server_folder: Path) -> AsyncIterator[LocalPostgres]:
    server = LocalPostgres(server_folder / "broken-postgres")
    await server.start()
    yield server
    await server.stop()


async def one(url: str, sql: str) -> object:
    connection = await asyncpg.connect(url, timeout=10)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def table_with_a_row(server: LocalPostgres, name: str) -> str:
    url = await server.create_database(name)
    await one(url, "CREATE TABLE kept AS SELECT 42 AS answer")
    return url


async def test_a_restart_keeps_the_data_and_the_port(server: LocalPostgres) -> None:
    url = await table_with_a_row(server, "restarted")

    await server.restart()

    assert server.dsn("restarted") == url
    assert await one(url, "SELECT answer FROM kept") == 42


async def test_what_was_committed_survives_a_kill(server: LocalPostgres) -> None:
    url = await table_with_a_row(server, "killed")

    await server.kill()
    assert not server.running
    await server.start()

    assert await one(url, "SELECT answer FROM kept") == 42


async def test_what_was_committed_survives_an_immediate_restart(server: LocalPostgres) -> None:
    url = await table_with_a_row(server, "crashed")

    await server.restart(immediate=True)

    assert await one(url, "SELECT answer FROM kept") == 42


async def test_a_frozen_server_answers_nobody_and_goes_on_after_the_thaw(
    server: LocalPostgres,
) -> None:
    connection = await asyncpg.connect(server.dsn("postgres"))
    server.freeze()
    asked = asyncio.create_task(connection.fetchval("SELECT 1"))
    assert await asyncio.wait([asked], timeout=0.3) == (set(), {asked})

    server.thaw()

    assert await asyncio.wait_for(asked, 10) == 1
    await connection.close()


async def test_a_database_is_a_copy_of_its_template(server: LocalPostgres) -> None:
    await table_with_a_row(server, "template")

    copy = await server.create_database("copied", template="template")

    assert await one(copy, "SELECT answer FROM kept") == 42


async def test_a_database_is_dropped_although_somebody_is_connected(server: LocalPostgres) -> None:
    connection = await asyncpg.connect(await server.create_database("dropped"))

    await server.drop_database("dropped")

    assert not await server.has_database("dropped")
    connection.terminate()


async def test_a_name_that_sql_could_take_for_more_is_refused(server: LocalPostgres) -> None:
    with pytest.raises(ValueError, match="can't name a database"):
        await server.create_database('a"; DROP DATABASE b')


async def test_a_failed_statement_says_what_the_server_said(server: LocalPostgres) -> None:
    with pytest.raises(LocalServerError, match="already exists"):
        await server.create_database("postgres")


async def test_it_listens_on_loopback_only(server: LocalPostgres) -> None:
    assert await one(server.dsn("postgres"), "SHOW listen_addresses") == "127.0.0.1"


async def test_who_has_no_password_is_not_let_in(server: LocalPostgres) -> None:
    without = f"postgresql://postgres@127.0.0.1:{server.port}/postgres"
    with pytest.raises(asyncpg.InvalidPasswordError):
        await one(without.replace("@", ":guessed@"), "SELECT 1")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await one(without, "SELECT 1")


async def test_a_cluster_that_trusted_everybody_asks_for_a_password(server_folder: Path) -> None:
    folder = server_folder / "trusting-postgres"
    server = LocalPostgres(folder, durable=False)
    await server.start()
    url = await table_with_a_row(server, "trusted")
    access = Path(await server.execute("SHOW hba_file"))
    await server.stop()
    _forget_password(folder, access)

    await server.start()

    assert server.dsn("trusted") != url
    assert await one(server.dsn("trusted"), "SELECT answer FROM kept") == 42
    with pytest.raises(asyncpg.InvalidPasswordError):
        await one(url, "SELECT 1")
    await server.stop()


def _forget_password(folder: Path, access: Path) -> None:
    """As an earlier release left it."""
    access.write_text("host all all 127.0.0.1/32 trust\n")
    (folder / "password").unlink()


async def test_a_setting_that_it_refuses_is_in_the_error(server_folder: Path) -> None:
    server = LocalPostgres(
        server_folder / "refusing-postgres", durable=False, extra_settings={"max_connections": "x"}
    )

    with pytest.raises(LocalServerError, match='invalid value for parameter "max_connections"'):
        await server.start()
    assert not server.running


async def test_a_folder_that_its_user_cannot_enter_does_not_stop_it() -> None:
    closed = Path(tempfile.mkdtemp())
    server = LocalPostgres(closed / "data", durable=False)

    await server.start()

    assert await one(server.dsn("postgres"), "SELECT 1") == 1
    await server.stop()
    shutil.rmtree((closed / "data" / "postgres").resolve())
    shutil.rmtree(closed)
