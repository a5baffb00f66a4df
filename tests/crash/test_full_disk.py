"""PostgreSQL's disk is full for a while: what can't be written waits, and nothing is made twice."""

import asyncio
import random
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from orchestrator.local.postgres import LocalPostgres
from orchestrator.store.database import Database, DatabaseOptions
from orchestrator.store.migrations import upgrade
from tests.fakes.bus import until
from tests.fakes.scripted_caller import Gate, ScriptedCaller, success
from tests.fakes.scripted_planner import ScriptedPlanner, complete, delegate
from tests.fakes.workers import Feed, all_reach, running_worker

DISK = "192m"
PIECE_BYTES = 64 * 1024
RESULT_BYTES = 400_000
TASKS = 20


@pytest.fixture
def disk(server_folder: Path) -> Iterator[Path]:
    """A file system of its own, which only root can mount."""
    folder = server_folder / "small-disk"
    folder.mkdir()
    mount = shutil.which("mount")
    told = [mount or "mount", "-t", "tmpfs", "-o", f"size={DISK},mode=711", "tmpfs", str(folder)]
    if mount is None or subprocess.run(told, check=False, capture_output=True).returncode != 0:
        folder.rmdir()
        pytest.skip("no right to mount a file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
    folder.rmdir()


@pytest_asyncio.fixture(loop_scope="session")
async def database(disk: Path) -> AsyncIterator[Database]:
    small = {"max_wal_size": "32MB", "min_wal_size": "32MB"}
    server = LocalPostgres(disk / "postgres", durable=False, extra_settings=small)
    await server.start()
    database = Database(DatabaseOptions(url=await server.create_database("small"), pool_size=4))
    await asyncio.to_thread(upgrade, server.dsn("small"))
    await database.open()
    yield database
    await database.close()
    await server.stop()


def fill(file: Path) -> None:
    """Takes all that is left."""
    with file.open("wb", buffering=0) as filler:
        try:
            while filler.write(bytes(PIECE_BYTES)):
                pass
        except OSError:
            return


async def test_tasks_wait_for_a_full_disk_and_lose_nothing(database: Database, disk: Path) -> None:
    text = random.Random(1).randbytes(RESULT_BYTES // 2).hex()
    gate = Gate(replace(success(text=text), duration_ms=1))
    caller = ScriptedCaller(crm=gate)
    feed = Feed(database)
    async with running_worker(
        database, planner=ScriptedPlanner(delegate("crm"), complete()), caller=caller
    ) as worker:
        await feed.send([feed.new_task(f"t-{n}") for n in range(TASKS)], to=worker)
        await until(lambda: caller.under_way == TASKS, seconds=20)
        fill(disk / "filler")
        gate.opened.set()
        await until(lambda: "53100" in (database._outage.reason or ""), seconds=20)

        (disk / "filler").unlink()

        await all_reach(database, "completed", tasks=TASKS, seconds=60)
    assert set(caller.sends.values()) == {1}
