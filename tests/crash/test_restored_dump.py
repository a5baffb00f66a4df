"""A dump and its restore as `docs/guides/backup.md` says it: the office goes on in the new one."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest_asyncio

from orchestrator.local.postgres_account import find_binaries
from tests.crash.conftest import FIELDS, WORDS, Office
from tests.fakes.invariants import check_effects, check_journals, check_positions, total
from tests.fixtures.servers import PostgresServer
from tests.integration.cli.command import called, told

OF_NO_WORKER = {"no_worker", "stranded"}
"""Broken where a restore takes longer than three leases: nobody works in the new database yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dumped:
    """An office, and a place beside its database."""

    office: Office
    postgres: PostgresServer
    file: Path
    new: str
    """The name of the database that the dump is restored into."""

    @property
    def url(self) -> str:
        return self.office.service.place.database_url

    async def dump(self) -> None:
        await program("pg_dump", "--format=custom", f"--file={self.file}", self.url)

    async def restore(self) -> str:
        """Into a new, empty database; its URL."""
        await program("psql", self.url, "-c", f"CREATE DATABASE {self.new}")
        url = f"{self.url.rpartition('/')[0]}/{self.new}"
        given = ("--no-owner", "--exit-on-error", f"--dbname={url}")
        await program("pg_restore", *given, str(self.file))
        return url


async def program(name: str, *arguments: str) -> None:
    """One of those that come with PostgreSQL; it has to succeed."""
    done = await asyncio.to_thread(_run, str(find_binaries(None) / name), *arguments)
    assert done.returncode == 0, done.stderr


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest_asyncio.fixture(loop_scope="session")
async def dumped(office: Office, postgres: PostgresServer, tmp_path: Path) -> AsyncIterator[Dumped]:
    """The workers on the new database have to end before it is dropped."""
    new = f"{office.service.place.database_url.rpartition('/')[2]}_new"
    yield Dumped(office=office, postgres=postgres, file=tmp_path / "orders.dump", new=new)
    for worker in office.service.workers:
        await worker.kill()
    await postgres.drop_database(new)


async def broken(environ: Mapping[str, str]) -> set[str]:
    """The invariants that do not hold."""
    found = json.loads((await called(environ, "invariants", "--deep", "--json")).stdout)
    return {each["name"] for each in found["invariants"] if each["violations"]}


async def test_a_service_goes_on_in_the_database_that_its_dump_was_restored_into(
    dumped: Dumped,
) -> None:
    office = dumped.office
    tasks = await office.publish(20)
    first = await office.worker("first").start()
    await office.progress(5)
    # Of a service at work: a dump is one moment.
    await dumped.dump()
    later = [f"later-{number}" for number in range(10)]
    for task in later:
        await office.observer.task(task, WORDS, *FIELDS)
    await office.observer.completed(*tasks, *later, seconds=40)
    await first.kill()

    url = await dumped.restore()
    office.service.place = replace(office.service.place, database_url=url)
    office.observer.renew_connection(url)
    assert await office.observer.rows("SELECT FROM tasks WHERE task_id LIKE 'later-%'") == []
    environ = office.service.environ()
    assert await broken(environ) <= OF_NO_WORKER
    await office.worker("second").start()

    await office.observer.completed(*tasks, *later, seconds=60)
    await check_journals(office.observer)
    await check_effects(office.observer, total(office.crm.effects, office.accounts.effects))
    await check_positions(office.observer)
    assert (await told(environ, "invariants", "--deep"))["holds"]
