"""`orchestrator doctor` beside a service that is well, and where something is missing."""

from tests.acceptance.conftest import Office
from tests.fakes.agent import Behaviour
from tests.integration.cli.command import called

NOTHING = {"DATABASE_URL": "", "KAFKA_BOOTSTRAP_SERVERS": "", "OPENAI_API_KEY": ""}


async def test_where_all_is_well_every_line_says_so(office: Office) -> None:
    done = await called(office.service.environ(), "doctor")
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    assert all(line.startswith("ok ") for line in lines), done.stdout
    assert {"Kafka", "topics", "PostgreSQL", "clock", "schema", "workers", "agent", "model"} <= {
        line.split()[1] for line in lines
    }


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
