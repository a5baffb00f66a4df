"""`orchestrator doctor` where something is wrong that a worker, or each of its tasks, ends of."""

import asyncio
import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestrator.store.database import Database
from tests.fakes.agent import running_agent
from tests.fakes.llm import Answer, FakeLlm, calls, refused, running_llm, text
from tests.integration.agents.test_model_health import endpoint, not_found
from tests.integration.cli.command import orchestrator, told
from tests.integration.cli.test_agents import CRM, declared

NOWHERE = {
    "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
    "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
    "OPENAI_API_KEY": "key",
    "OPENAI_BASE_URL": "http://127.0.0.1:1/v1",
}
SIGNED = {"CRM_SIGNING_SECRET": "whsec_" + "QUJD" * 11}
UNNAMED = ""
"""The task of `doctor --ask` names no id."""


async def lines(environ: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Name, state and words of each finding."""
    done = await asyncio.to_thread(orchestrator, "doctor", "--json", environ=environ)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    assert done.returncode == (1 if any(f["state"] == "failed" for f in found) else 0)
    return [(f["name"], f["state"], f["says"]) for f in found]


def of(found: list[tuple[str, str, str]], name: str) -> tuple[str, str]:
    ((state, says),) = [(state, says) for n, state, says in found if n == name]
    return state, says


async def test_a_model_whose_package_is_missing_fails() -> None:
    state, says = of(await lines({**NOWHERE, "LLM_MODEL": "groq:llama"}), "model")
    assert state == "failed"
    assert "langchain-groq" in says


async def test_a_web_server_that_is_no_model_is_doubted() -> None:
    async with endpoint(not_found) as url:
        environ = {**NOWHERE, "OPENAI_BASE_URL": url.removesuffix("/v1")}
        state, says = of(await lines(environ), "model")
    assert state == "warning"
    assert says.endswith("answers HTTP 404: does OPENAI_BASE_URL end in /v1?")


@pytest.mark.parametrize(
    ("wrong", "hidden"),
    [
        ({"KAFKA_BOOTSTRAP_SERVERS": "kafka"}, "Kafka"),
        ({"DATABASE_URL": "mysql://db/orders"}, "PostgreSQL"),
        ({"LLM_MODEL": "gpt-4.1"}, "model"),
        ({"ORCHESTRATOR_CONCURENCY": "5"}, None),
        ({"PORT": "http"}, None),
    ],
)
async def test_one_wrong_variable_hides_nothing_else(
    wrong: dict[str, str], hidden: str | None
) -> None:
    found = await lines({**NOWHERE, **wrong})
    assert of(found, "settings")[1].startswith(next(iter(wrong)))
    assert {name for name, state, _ in found if state == "skipped"} == ({hidden} - {None})


async def test_a_file_of_settings_that_can_not_be_read_leaves_nothing_to_look_at(
    tmp_path: Path,
) -> None:
    (tmp_path / ".env").write_bytes(b"PORT=\xff\n")
    done = await asyncio.to_thread(orchestrator, "doctor", environ=NOWHERE, cwd=tmp_path)
    assert done.returncode == 1
    assert "failed   settings    .env: can't be read as UTF-8 text" in done.stdout
    assert done.stdout.count("skipped ") == 3


async def test_agents_are_those_stored_and_those_of_the_folder_which_go_first(
    database_url: str, tmp_path: Path
) -> None:
    environ = {**NOWHERE, "DATABASE_URL": database_url, "ORCHESTRATOR_AGENTS_DIR": str(tmp_path)}
    assert of(await lines(environ), "agents") == ("warning", "there are none")
    async with running_agent() as peer:
        url = {**environ, "CRM_URL": peer.url, "ORCHESTRATOR_DECLARATION_VARIABLES": "CRM_URL"}
        await told(environ, "agents", "add", declared(tmp_path, "crm.yaml", CRM))
        declared(tmp_path, "crm.yaml", CRM.replace("http://127.0.0.1:1", "${CRM_URL}"))
        assert of(await lines(url), "agent")[1].startswith(f"crm is ready at {peer.url} (")
        declared(tmp_path, "erp.yaml", CRM.replace("id: crm", "id: erp"))
        agents = [found for found in await lines(url) if found[0] == "agent"]
    assert [state for _, state, _ in agents] == ["ok", "failed"]
    assert "the connection to agent 'erp' failed" in agents[1][2]


async def test_a_file_of_the_folder_that_is_wrong_is_told_and_hides_no_stored_agent(
    database_url: str, tmp_path: Path
) -> None:
    environ = {**NOWHERE, "DATABASE_URL": database_url, "ORCHESTRATOR_AGENTS_DIR": str(tmp_path)}
    async with running_agent() as peer:
        text = CRM.replace("http://127.0.0.1:1", peer.url)
        await told(environ, "agents", "add", declared(tmp_path, "crm.yaml", text))
        declared(tmp_path, "bad.yaml", "id: [")
        found = await lines(environ)
    assert of(found, "agent")[0] == "ok"
    state, says = of(found, "agents")
    assert (state, says.startswith("bad.yaml: is not valid YAML")) == ("failed", True)


async def test_what_is_paused_is_told_with_who_and_why_and_how_to_resume(
    database_url: str, tmp_path: Path
) -> None:
    environ = {"DATABASE_URL": database_url}
    await told(environ, "agents", "add", declared(tmp_path, "crm.yaml", CRM + "tenant: acme\n"))
    why = ("--by", "kim", "--reason", "too dear")
    await told(environ, "agents", "pause", "crm", "--tenant", "acme", *why)
    await told(environ, "models", "pause", *why)
    done = await asyncio.to_thread(orchestrator, "doctor", "--json", environ={**NOWHERE, **environ})
    pauses = [f for f in json.loads(done.stdout) if f["name"] == "pause"]
    assert {f["state"] for f in pauses} == {"warning"}
    assert [f["says"].endswith(": too dear") for f in pauses] == [True, True]
    assert [" is paused by kim since " in f["says"] for f in pauses] == [True, True]
    assert sorted(f["advice"] for f in pauses) == [
        "its tasks wait; `orchestrator agents resume crm --tenant acme`",
        "its tasks wait; `orchestrator models resume openai:gpt-4.1-mini`",
    ]


async def test_other_content_under_a_known_id_is_told_for_a_day(
    database_url: str, database: Database
) -> None:
    row = """INSERT INTO other_contents
             VALUES ($1, 2, 't', 'e', 'e/0/2', 'e/0/1', now() - $2::interval)"""
    await database.fetch(row, "events", timedelta(hours=1))
    await database.fetch(row, "tasks", timedelta(hours=25))
    found = await lines({**NOWHERE, "DATABASE_URL": database_url})
    state, says = of(found, "duplicates")
    assert state == "warning"
    assert says.startswith("on events 2 messages with a known id and other content")


async def test_a_key_with_a_line_break_in_it_is_named_and_ends_in_no_traceback() -> None:
    done = await asyncio.to_thread(
        orchestrator, "doctor", environ={**NOWHERE, "OPENAI_API_KEY": "CAN\nARY"}
    )
    assert "failed   settings    OPENAI_API_KEY: expected the key of OpenAI's API" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert "CAN" not in done.stdout + done.stderr


async def asked(llm: FakeLlm) -> tuple[str, str]:
    environ = {**NOWHERE, "OPENAI_BASE_URL": llm.url}
    done = await asyncio.to_thread(orchestrator, "doctor", "--ask", "--json", environ=environ)
    found = [(f["name"], f["state"], f["says"]) for f in json.loads(done.stdout)]
    return of(found, "model")


WRITTEN = calls(("update_context", {"collected": {"order_number": "4711"}}))


async def test_a_model_that_is_asked_answers_with_a_tool_call_and_takes_it_back() -> None:
    async with running_llm() as llm:
        llm.will(UNNAMED, WRITTEN, calls(("complete", {"result": {}})))
        state, says = await asked(llm)
    assert (state, len(llm.prompts)) == ("ok", 2)
    assert "answered with a tool call and accepted it in the next request (" in says


async def test_an_endpoint_that_refuses_a_second_turn_fails_when_it_is_asked() -> None:
    async with running_llm() as llm:
        llm.will(UNNAMED, WRITTEN, *[refused(400)] * 5)
        state, says = await asked(llm)
    assert state == "failed"
    assert "scripted 400" in says


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (text("Sure! 4711."), "called no tool, it answered 'Sure! 4711.'"),
        (calls(("update_context", {"collected": 4711})), "called a tool wrongly: "),
        (refused(401), "the provider refused the API key"),
        (refused(404), "404"),
    ],
    ids=["text", "wrong", "401", "404"],
)
async def test_a_model_that_can_not_plan_fails_when_it_is_asked(answer: Answer, told: str) -> None:
    async with running_llm() as llm:
        llm.will(UNNAMED, answer)
        state, says = await asked(llm)
    assert state == "failed"
    assert told in says


async def test_an_agent_whose_signing_secret_is_missing_fails(
    database_url: str, tmp_path: Path
) -> None:
    environ = {**NOWHERE, "DATABASE_URL": database_url}
    async with running_agent() as peer:
        signed = CRM.replace("http://127.0.0.1:1", peer.url) + "secret_env: CRM_SIGNING_SECRET\n"
        await told({**environ, **SIGNED}, "agents", "add", declared(tmp_path, "crm.yaml", signed))
        state, says = of(await lines(environ), "agent")
        assert of(await lines({**environ, **SIGNED}), "agent")[0] == "ok"
    assert state == "failed"
    assert says.startswith("calls of agent 'crm' can't be signed: CRM_SIGNING_SECRET is not set")
