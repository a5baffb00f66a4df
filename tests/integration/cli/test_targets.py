"""Agents and the model put on hold from the command line, and what is shown of them."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from orchestrator.domain.ids import WorkerId
from orchestrator.domain.json import JsonObject
from orchestrator.store import targets, workers
from orchestrator.store.database import Database, DatabaseOptions
from tests.integration.cli.command import ROOT, called, told
from tests.integration.cli.test_agents import CRM, declared

TARGET = "agent/default/crm"

NAMELESS = """
import os, sys
from orchestrator.cli.main import main
os.getuid = lambda: 2**31 - 2
sys.argv = ["orchestrator", *sys.argv[1:]]
main()
"""
"""The command, called by a user of whom /etc/passwd knows nothing, as in the container."""


@pytest_asyncio.fixture(loop_scope="session")
async def environ(database_url: str, tmp_path: Path) -> dict[str, str]:
    environ = {"DATABASE_URL": database_url}
    await told(environ, "agents", "add", declared(tmp_path, "crm.yaml", CRM))
    return environ


@pytest_asyncio.fixture(loop_scope="session")
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(DatabaseOptions(url=database_url, pool_size=1))
    await database.open()
    yield database
    await database.close()


async def opened(database: Database) -> WorkerId:
    """A worker that finds the agent down."""
    worker = await workers.register(database, "host-1")
    state: JsonObject = {"breaker": "open", "in_flight": 2, "retries_left": 7}
    await targets.put_states(database, worker, {TARGET: state})
    return worker


async def test_an_agent_is_paused_and_resumed(environ: dict[str, str]) -> None:
    outcomes = [
        (await told(environ, "agents", command, "crm"))["outcome"]
        for command in ("pause", "pause", "resume", "resume")
    ]
    assert outcomes == ["paused", "was paused already", "resumed", "was not paused"]


async def test_what_is_shown_says_who_paused_it_and_why(environ: dict[str, str]) -> None:
    await told(environ, "agents", "pause", "crm", "--by", "kim", "--reason", "too dear")
    state = (await told(environ, "agents", "show", "crm"))["state"]
    assert (state["pause"]["by"], state["pause"]["reason"]) == ("kim", "too dear")
    assert (state["parked_tasks"], state["workers"]) == (0, [])
    shown = (await called(environ, "agents", "show", "crm")).stdout
    assert "# paused by kim since " in shown
    assert shown.startswith("id: crm")


async def test_a_list_of_agents_says_which_are_paused(environ: dict[str, str]) -> None:
    (agent,) = await told(environ, "agents", "list")
    assert agent["pause"] is None
    await told(environ, "agents", "pause", "crm", "--by", "kim", "--reason", "too dear")
    (agent,) = await told(environ, "agents", "list")
    assert (agent["pause"]["by"], agent["pause"]["reason"]) == ("kim", "too dear")
    listed = (await called({**environ, "COLUMNS": "200"}, "agents", "list")).stdout
    assert "by kim: too dear" in listed


async def test_a_second_pause_keeps_who_paused_it_first_unless_it_says_why(
    environ: dict[str, str],
) -> None:
    async def shown() -> JsonObject:
        pause: JsonObject = (await told(environ, "agents", "show", "crm"))["state"]["pause"]
        return pause

    await told(environ, "agents", "pause", "crm", "--by", "kim", "--reason", "too dear")
    first = await shown()
    again = await told(environ, "agents", "pause", "crm", "--by", "lee")
    assert (again["outcome"], await shown()) == ("was paused already", first)
    await told(environ, "agents", "pause", "crm", "--by", "lee", "--reason", "it is down")
    second = await shown()
    assert (second["by"], second["reason"]) == ("lee", "it is down")


async def test_a_user_without_a_name_pauses_too(environ: dict[str, str]) -> None:
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", NAMELESS, "agents", "pause", "crm"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environ},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "agent crm: paused\n"), done.stderr
    shown = (await called(environ, "agents", "show", "crm")).stdout
    assert "# paused since " in shown


async def test_what_is_shown_has_each_workers_view(
    environ: dict[str, str], database: Database
) -> None:
    worker = await opened(database)
    shown = (await called(environ, "agents", "show", "crm")).stdout
    assert "# worker host-1: breaker open, 2 calls in flight, 7 second tries left" in shown
    await workers.leave(database, worker)
    shown = (await called(environ, "agents", "show", "crm")).stdout
    assert "# no living worker has called it yet" in shown


async def test_states_of_workers_that_are_gone_go_too(database: Database) -> None:
    await workers.leave(database, await opened(database))
    worker = await opened(database)
    rows = await database.fetch("SELECT worker FROM agent_states")
    assert [row["worker"] for row in rows] == [worker]


@pytest.mark.parametrize("command", ["pause", "resume"])
async def test_an_agent_that_is_not_there_is_told(environ: dict[str, str], command: str) -> None:
    done = await called(environ, "agents", command, "nobody")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: there is no agent 'nobody'")


async def test_the_model_of_the_settings_is_paused_shown_and_resumed(
    environ: dict[str, str],
) -> None:
    environ |= {"LLM_MODEL": "openai:m"}
    assert await told(environ, "models", "pause", "--by", "kim") == {
        "id": "openai:m",
        "outcome": "paused",
    }
    shown = (await called(environ, "models", "show", "openai:m")).stdout.splitlines()
    assert shown[0] == "model openai:m"
    assert shown[1].startswith("paused by kim since ")
    assert (await told(environ, "models", "resume"))["outcome"] == "resumed"
    assert (await told(environ, "models", "show"))["state"]["pause"] is None


async def test_a_model_that_no_worker_uses_is_not_paused(
    environ: dict[str, str], database: Database
) -> None:
    assert (await told(environ, "models", "pause", "openai:n"))["outcome"] == "paused"
    worker = await workers.register(database, "host-1")
    await targets.put_states(database, worker, {"model/openai:m": {"breaker": "closed"}})
    done = await called(environ, "models", "pause", "nosuchmodel")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: no worker uses model 'nosuchmodel'; in use: openai:m\n"
    assert (await told(environ, "models", "pause", "openai:m"))["outcome"] == "paused"
