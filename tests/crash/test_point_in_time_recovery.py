"""Point-in-time recovery as `docs/guides/backup.md` says it: a base backup, WAL, a moment."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest_asyncio

from orchestrator.local.postgres import LocalPostgres
from orchestrator.store.migrations import upgrade
from tests.crash.conftest import FIELDS, WORDS, Office, furnished
from tests.fakes.bus import until
from tests.fakes.invariants import check_effects, check_journals, check_positions, total
from tests.fixtures.servers import KafkaServer
from tests.fixtures.service import new_service

ARCHIVE = "mkdir -p ../archive && cp %p ../archive/%f"
"""Run in the data folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Archived:
    """A server that archives its WAL, and an office that works on it."""

    server: LocalPostgres
    office: Office
    folder: Path

    async def base_backup(self) -> Path:
        copy = self.folder / "restored" / "postgres" / "cluster"
        copy.parent.mkdir(parents=True)
        program, source = self.server.binaries / "pg_basebackup", self.server.dsn("postgres")
        options = ["-X", "none", "--checkpoint=fast", "--no-sync"]
        await asyncio.to_thread(_run, str(program), "-d", source, "-D", str(copy), *options)
        return copy

    async def all_archived(self) -> None:
        """Everything that was committed is in the archive."""
        last = await self.server.execute("SELECT pg_walfile_name(pg_switch_wal())")

        async def is_there() -> bool:
            archived = "SELECT coalesce(last_archived_wal, '') FROM pg_stat_archiver"
            return await self.server.execute(archived) >= last

        await until(is_there, seconds=30, what=f"{last} in the archive")

    async def restored(self, copy: Path, moment: str) -> LocalPostgres:
        """The server as it was at that moment, from the copy and the archive."""
        source = Path(await self.server.execute("SHOW data_directory"))
        _hand_over(copy, like=source)
        settings = {
            "restore_command": f"cp {source.parent / 'archive'}/%f %p",
            "recovery_target_time": moment,
            "recovery_target_action": "promote",
        }
        shutil.copy(self.folder / "source" / "password", self.folder / "restored")
        server = LocalPostgres(self.folder / "restored", extra_settings=settings)
        await server.start()
        return server


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _hand_over(copy: Path, *, like: Path) -> None:
    """To the account that the server runs as, to be recovered."""
    (copy / "recovery.signal").touch()
    owner = like.stat()
    for path in (copy.parent.parent, copy.parent, copy, *copy.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid)


@pytest_asyncio.fixture(loop_scope="session")
async def archived(
    kafka: KafkaServer, server_folder: Path, tmp_path: Path
) -> AsyncIterator[Archived]:
    folder = server_folder / "recovery"
    folder.mkdir(mode=0o711)
    server = LocalPostgres(
        folder / "source", extra_settings={"archive_mode": "on", "archive_command": ARCHIVE}
    )
    await server.start()
    try:
        url = await server.create_database("empty")
        await asyncio.to_thread(upgrade, url)
        async with new_service(kafka, server, template="empty", folder=tmp_path) as service:
            yield Archived(server=server, office=await furnished(service), folder=folder)
    finally:
        await server.stop()
        shutil.rmtree(folder)


async def publish(office: Office, name: str, count: int) -> list[str]:
    tasks = [f"{name}-{number}" for number in range(count)]
    for task in tasks:
        await office.observer.task(task, WORDS, *FIELDS)
    return tasks


async def test_service_restored_to_a_moment_does_the_work_since_then_once_by_key(
    archived: Archived,
) -> None:
    office = archived.office
    worker = await office.worker("first").start()
    tasks = await publish(office, "before", 10)
    await office.observer.completed(*tasks, seconds=40)
    copy = await archived.base_backup()
    tasks += await publish(office, "kept", 10)
    await office.observer.completed(*tasks, seconds=40)
    moment = await archived.server.execute("SELECT clock_timestamp()")
    tasks += await publish(office, "lost", 20)
    await office.observer.completed(*tasks, seconds=40)
    await archived.all_archived()
    await worker.kill()

    server = await archived.restored(copy, moment)
    try:
        url = server.dsn(office.service.place.database_url.rpartition("/")[2])
        office.service.place = replace(office.service.place, database_url=url)
        office.observer.renew_connection(url)
        assert sum(s == "completed" for s in (await office.observer.statuses()).values()) == 20
        await office.worker("second").start()

        await office.observer.completed(*tasks, seconds=60)
        await check_journals(office.observer)
        await check_effects(office.observer, total(office.crm.effects, office.accounts.effects))
        await check_positions(office.observer)
    finally:
        for each in office.service.workers:
            await each.kill()
        await server.stop()
