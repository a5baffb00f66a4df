"""PostgreSQL restored to an earlier moment: positions go back with it, and Kafka has the rest."""

from collections.abc import AsyncIterator
from dataclasses import replace
from urllib.parse import urlsplit

import pytest_asyncio

from tests.crash.conftest import FIELDS, WORDS, Office
from tests.fakes.invariants import check_effects, check_journals, check_positions, total
from tests.fixtures.servers import PostgresServer


@pytest_asyncio.fixture(loop_scope="session")
async def copy_name(office: Office, postgres: PostgresServer) -> AsyncIterator[str]:
    """Of the copy; the workers on it have to end before it is dropped."""
    name = f"{urlsplit(office.service.place.database_url).path[1:]}_copy"
    yield name
    for worker in office.service.workers:
        await worker.kill()
    await postgres.drop_database(name)


async def copied(office: Office, postgres: PostgresServer, name: str) -> str:
    """A copy of the service's database, which nobody may be connected to."""
    original = office.service.place.database_url
    office.observer.renew_connection(original)
    return await postgres.create_database(name, template=urlsplit(original).path[1:])


async def test_after_a_restore_to_an_earlier_moment_the_messages_since_then_are_read_again(
    office: Office, postgres: PostgresServer, copy_name: str
) -> None:
    before = await office.publish(20)
    first = await office.worker("first").start()
    await office.progress(5)
    assert await first.stop() == 0
    backup = await copied(office, postgres, copy_name)
    after = [f"later-{number}" for number in range(30)]
    for task in after:
        await office.observer.task(task, WORDS, *FIELDS)
    second = await office.worker("second").start()
    await office.observer.completed(*before, *after, seconds=40)
    assert await second.stop() == 0

    office.service.place = replace(office.service.place, database_url=backup)
    office.observer.renew_connection(backup)
    await office.worker("third").start()

    await office.observer.completed(*before, *after, seconds=40)
    await check_journals(office.observer)
    await check_effects(office.observer, total(office.crm.effects, office.accounts.effects))
    await check_positions(office.observer)
