"""A wrong setting is one clear line and exit code 2; no secret is ever printed."""

import asyncio
from pathlib import Path

import pytest

from tests.fakes.forked_command import Done
from tests.fixtures.service import Service
from tests.integration.cli.command import orchestrator

CANARY = "canary-7f3a"
GOOD = {
    "DATABASE_URL": f"postgresql://me:{CANARY}@127.0.0.1:1/db",
    "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
    "OPENAI_API_KEY": f"sk-{CANARY}",
    "PORT": "0",
}


def worker(environ: dict[str, str]) -> Done:
    return orchestrator("worker", environ=environ, cwd=Path(__file__).parent)


def without(name: str) -> dict[str, str]:
    return {key: value for key, value in GOOD.items() if key != name}


WRONG = [
    pytest.param(without("DATABASE_URL"), "DATABASE_URL: is missing", id="no database"),
    pytest.param(
        {**GOOD, "ORCHESTRATOR_AGENTS_DIR": "/nowhere"},
        "ORCHESTRATOR_AGENTS_DIR: there is no folder '/nowhere'",
        id="a folder that is not there",
    ),
    pytest.param(
        {**GOOD, "ORCHESTRATOR_LEASE_SECOND": "5"},
        "ORCHESTRATOR_LEASE_SECOND: there is no such setting; did you mean "
        "ORCHESTRATOR_LEASE_SECONDS?",
        id="an unknown variable",
    ),
    pytest.param(
        {**GOOD, "DATABASE_URL": f"mysql://me:{CANARY}@h/db"},
        "DATABASE_URL: expected postgresql://",
        id="another database",
    ),
    pytest.param(
        {**GOOD, "OPENAI_BASE_URL": f"sk-{CANARY}"},
        "OPENAI_BASE_URL: expected a URL",
        id="a key in the wrong place",
    ),
]


@pytest.mark.parametrize(("environ", "line"), WRONG)
def test_a_wrong_setting_is_one_line_that_names_it_and_exit_code_2(
    environ: dict[str, str], line: str
) -> None:
    run = worker(environ)

    assert run.returncode == 2
    assert run.stderr.startswith(f"error: {line}")
    assert len(run.stderr.splitlines()) == 1
    assert CANARY not in run.stderr + run.stdout


def test_all_wrong_settings_are_told_at_once() -> None:
    run = worker({**GOOD, "PORT": "x", "ORCHESTRATOR_CONCURRENCY": "0", "LLM_MODEL": "gpt"})

    assert run.returncode == 2
    for name in ("PORT", "ORCHESTRATOR_CONCURRENCY", "LLM_MODEL"):
        assert name in run.stderr
    assert "Traceback" not in run.stderr


LATE = [
    pytest.param({"LLM_MODEL": "nobody:x"}, "LLM_MODEL is 'nobody:x'", id="a provider of nobody"),
    pytest.param(
        {"ORCHESTRATOR_CREATE_TOPICS": "false", "ORCHESTRATOR_TOPIC_TASKS": "not-there"},
        "Kafka has no topic 'not-there'",
        id="a topic that is not there",
    ),
]


@pytest.mark.parametrize(("environ", "line"), LATE)
async def test_a_setting_that_shows_wrong_only_at_work_is_told_the_same_way(
    service: Service, environ: dict[str, str], line: str
) -> None:
    secret = {"OPENAI_API_KEY": CANARY}

    run = await asyncio.to_thread(worker, {**service.environ(), **secret, **environ})

    assert run.returncode == 2
    last = run.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert line in last
    assert "Traceback" not in run.stderr
    assert CANARY not in run.stderr + run.stdout


async def test_a_database_without_the_schema_is_told_with_what_to_do(service: Service) -> None:
    await service.observer.rows("DROP SCHEMA public CASCADE")
    await service.observer.rows("CREATE SCHEMA public")

    run = await asyncio.to_thread(worker, service.environ())

    assert run.returncode != 0
    assert "orchestrator migrate" in run.stderr.splitlines()[-1]
    assert "Traceback" not in run.stderr


async def test_no_secret_is_in_any_log_line(service: Service) -> None:
    running = service.worker(verbose="true")
    running.environ["OPENAI_API_KEY"] = f"sk-{CANARY}"
    running.environ["LOG_LEVEL"] = "debug"
    await running.start()
    await service.observer.task("t", "Register the customer ACME", "customer_id")
    await service.observer.reached("t", "failed")

    assert await running.stop() == 0

    assert running.says("agent call") == []
    assert CANARY not in running.text()
