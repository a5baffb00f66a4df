"""A new release beside the old schema: its workers wait, and go on with what the old ones left."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer

from orchestrator.domain.context import Context
from orchestrator.domain.errors import SchemaBehind, SchemaMismatch
from orchestrator.store import migrations
from orchestrator.store.database import Database, DatabaseOptions
from orchestrator.store.revision import check_revision
from tests.crash.conftest import FIELDS, WORDS, Office, furnished
from tests.fakes.bus import until
from tests.fixtures.servers import KafkaServer, PostgresServer
from tests.fixtures.service import Service, new_service
from tests.integration.bus.test_faults import more_partitions
from tests.integration.store.earlier import made_by_earlier_release
from tests.integration.store.test_last_release import LastRelease

RELEASE_0_1_0 = "0002"


@pytest_asyncio.fixture(loop_scope="session")
async def old_schema(postgres: PostgresServer) -> AsyncIterator[str]:
    """The name of a database as release 0.1.0 left it."""
    name = f"old_{uuid.uuid4().hex}"
    url = await postgres.create_database(name)
    await made_by_earlier_release(url, revision=RELEASE_0_1_0)
    yield name
    await postgres.drop_database(name)


@pytest_asyncio.fixture(loop_scope="session")
async def office(
    kafka: KafkaServer, postgres: PostgresServer, old_schema: str, tmp_path: Path
) -> AsyncIterator[Office]:
    async with new_service(kafka, postgres, template=old_schema, folder=tmp_path) as service:
        yield await furnished(service)


async def leave_a_task_behind(url: str) -> None:
    """As a worker of release 0.1.0 that took it in, and ended before it ran."""
    database = Database(DatabaseOptions(url=url, pool_size=1))
    await database.open()
    old = LastRelease(database)
    await old.join()
    context = Context(required_fields=FIELDS, event_data={"name": "ACME"}).to_json()
    document = {"description": WORDS, "context": context, "source": "tasks/0/0"}
    await old.ingest({"task_id": "left", "task": orjson.dumps(document).decode()})
    await database.close()


async def test_new_worker_waits_for_the_migration_and_finishes_what_the_old_release_began(
    office: Office,
) -> None:
    url = office.service.place.database_url
    await leave_a_task_behind(url)
    worker = office.worker("new")
    await worker.launch()

    async def says_so() -> bool:
        return any("run `orchestrator migrate`" in str(line) for line in worker.lines())

    await until(says_so, seconds=40, what="a word about the schema")
    assert worker.process.running
    await asyncio.to_thread(migrations.upgrade, url)

    await worker.process.wait_until(worker.is_ready, within_seconds=60)
    await office.observer.completed("left", seconds=40)


async def test_new_worker_that_may_migrate_does_so_and_begins(office: Office) -> None:
    await leave_a_task_behind(office.service.place.database_url)

    await office.worker("new", migrate="true").start()

    await office.observer.completed("left", seconds=40)


async def test_schema_of_a_release_before_is_waited_for_and_none_at_all_is_not(
    postgres: PostgresServer, old_schema: str
) -> None:
    with pytest.raises(SchemaBehind, match=r"revision 0002.*run `orchestrator migrate`") as behind:
        await check_revision(postgres.dsn(old_schema))
    assert behind.value.retryable

    url = await postgres.create_database(f"{old_schema[:20]}_empty")
    with pytest.raises(SchemaMismatch, match="no schema yet") as missing:
        await check_revision(url)
    assert not missing.value.retryable
    await postgres.drop_database(f"{old_schema[:20]}_empty")


async def test_a_killed_worker_that_comes_back_reads_partitions_that_are_new(
    service: Service,
) -> None:
    """Kafka gives a member that is back under its name what it had before."""
    office, bus = await furnished(service), service.place.bus
    worker = await office.worker("w").start()
    await worker.kill()
    await more_partitions(bus, bus.topics.tasks, bus.partitions + 1)
    await office.worker("w").start()

    task = {"task_id": "after", "task_description": f"[after] {WORDS}", "required_fields": FIELDS}
    async with AIOKafkaProducer(bootstrap_servers=bus.bootstrap_servers) as producer:
        value = orjson.dumps(task)
        await producer.send_and_wait(bus.topics.tasks, value, partition=bus.partitions)
    await office.check("after")
