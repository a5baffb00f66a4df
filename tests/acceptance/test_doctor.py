"""`orchestrator doctor` beside a service that is well, and where something is missing."""

import uuid
from collections.abc import AsyncIterator

import pytest_asyncio

from orchestrator.store.revision import head
from tests.acceptance.conftest import Office
from tests.fakes.agent import Behaviour
from tests.fakes.forked_command import Done
from tests.fixtures.servers import PostgresServer
from tests.integration.cli.command import called
from tests.integration.store.earlier import executed, made_by_earlier_release

OLDER = "0009"
"""The revision of an earlier release."""
NOTHING = {"DATABASE_URL": "", "KAFKA_BOOTSTRAP_SERVERS": "", "OPENAI_API_KEY": ""}


@pytest_asyncio.fixture(loop_scope="session")
async def empty_database_url(postgres: PostgresServer) -> AsyncIterator[str]:
    name = f"test_{uuid.uuid4().hex}"
    yield await postgres.create_database(name)
    await postgres.drop_database(name)


async def beside(office: Office, database_url: str) -> Done:
    """The doctor of a service that has all the office has, but another database."""
    return await called({**office.service.environ(), "DATABASE_URL": database_url}, "doctor")


def troubles(done: Done) -> list[str]:
    """The findings that are not well, each with its advice, in one line."""
    found: list[str] = []
    for line in done.stdout.splitlines():
        if line.lstrip().startswith("→") and found:
            found[-1] += f" {line.strip()}"
        else:
            found.append(" ".join(line.split()))
    return [line for line in found if not line.startswith("ok ")]


async def test_where_all_is_well_every_line_says_so(office: Office) -> None:
    done = await called(office.service.environ(), "doctor")
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    assert all(line.startswith("ok ") for line in lines), done.stdout
    assert {
        "Kafka",
        "topics",
        "PostgreSQL",
        "clock",
        "schema",
        "workers",
        "group",
        "agent",
        "model",
    } <= {line.split()[1] for line in lines}


async def test_an_agent_that_is_not_ready_is_named(office: Office) -> None:
    before, office.crm.health = office.crm.health, Behaviour(body='{"ready": false}')
    done = await called(office.service.environ(), "doctor")
    office.crm.health = before
    assert done.returncode == 1
    assert "failed   agent       agent 'crm' says that it is not ready" in done.stdout


async def test_what_is_missing_is_told_with_what_to_do(office: Office) -> None:
    environ = {
        **office.service.environ(),
        "ORCHESTRATOR_TOPIC_EVENTS": "absent",
        "OPENAI_BASE_URL": "http://127.0.0.1:1/v1",
    }
    done = await called(environ, "doctor")
    assert done.returncode == 1
    assert "failed   topics      missing: absent" in done.stdout
    assert "→ `orchestrator topics create`" in done.stdout
    assert "failed   model       http://127.0.0.1:1/v1 can't be reached" in done.stdout


async def test_a_database_that_takes_no_writes_fails(office: Office) -> None:
    url = office.service.environ()["DATABASE_URL"]
    read_only = f"{url}?options=-c%20default_transaction_read_only%3Don"
    done = await called({**office.service.environ(), "DATABASE_URL": read_only}, "doctor")
    assert done.returncode == 1
    assert "read-only" in done.stdout


async def test_without_settings_each_missing_one_is_a_line() -> None:
    done = await called(NOTHING, "doctor")
    assert done.returncode == 1
    for name in NOTHING:
        assert f"failed   settings    {name}: is missing" in done.stdout
    assert "skipped  Kafka" in done.stdout


async def test_servers_that_are_away_fail_with_their_address(office: Office) -> None:
    environ = {
        **office.service.environ(),
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
    }
    done = await called(environ, "doctor")
    assert done.returncode == 1
    assert "failed   Kafka" in done.stdout
    assert "127.0.0.1:1" in done.stdout
    assert "failed   PostgreSQL" in done.stdout


async def test_a_schema_of_an_earlier_release_fails_and_is_to_be_migrated(
    office: Office, empty_database_url: str
) -> None:
    await made_by_earlier_release(empty_database_url, revision=OLDER)
    done = await beside(office, empty_database_url)
    assert done.returncode == 1
    assert troubles(done) == [
        f"failed schema the database has the schema of revision {OLDER}, this release needs "
        f"{head()}: run `orchestrator migrate` → `orchestrator migrate`"
    ]


async def test_a_database_without_a_schema_fails_and_is_to_be_migrated(
    office: Office, empty_database_url: str
) -> None:
    done = await beside(office, empty_database_url)
    assert done.returncode == 1
    assert troubles(done) == [
        f"failed schema the database has no schema yet, this release needs revision {head()}: "
        "run `orchestrator migrate` → `orchestrator migrate`"
    ]


async def test_a_database_of_another_program_fails_and_is_named(
    office: Office, empty_database_url: str
) -> None:
    await executed(
        empty_database_url,
        "CREATE TABLE alembic_version (version_num text); INSERT INTO alembic_version VALUES ('x')",
    )
    (found,) = troubles(done := await beside(office, empty_database_url))
    assert done.returncode == 1
    assert found.startswith("failed schema this database belongs to another program: its table ")


async def test_a_schema_of_a_later_release_is_a_warning(office: Office, database_url: str) -> None:
    await executed(database_url, "UPDATE orchestrator_schema_version SET version_num = '9999'")
    assert troubles(await beside(office, database_url))[0].startswith(
        f"warning schema revision 9999, of a later release; this one needs {head()}"
    )


async def test_where_no_worker_runs_and_no_agent_is_declared_it_warns_and_says_how_to_begin(
    office: Office, database_url: str
) -> None:
    environ = {**office.service.environ(), "DATABASE_URL": database_url, "KAFKA_GROUP_ID": "new"}
    done = await called({**environ, "ORCHESTRATOR_AGENTS_DIR": ""}, "doctor")
    assert done.returncode == 0  # a service that is yet to be started has nothing wrong
    assert troubles(done) == [
        "warning workers none runs → `orchestrator worker`",
        "warning agents there are none → "
        "`orchestrator agents add FILE`, or ORCHESTRATOR_AGENTS_DIR",
    ]


async def test_a_copy_of_the_database_is_told_from_it(
    office: Office, postgres: PostgresServer, database_template: str
) -> None:
    name = f"test_{uuid.uuid4().hex}"
    url = await postgres.create_database(name, template=database_template)
    done = await beside(office, url)
    await postgres.drop_database(name)
    assert done.returncode == 1
    (group,) = (line for line in troubles(done) if "group " in line)
    assert group.startswith("failed group Kafka refuses workers of this service as members")
