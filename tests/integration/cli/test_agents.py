from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import yaml

from orchestrator.agents.declaration import dump, parse
from orchestrator.agents.registry import load_agents
from orchestrator.domain.ids import AgentId
from orchestrator.store import agents as stored
from orchestrator.store.database import Database, DatabaseOptions
from tests.integration.cli.command import called, told

CRM = """
id: crm
name: CRM
description: Creates customers.
endpoint: http://127.0.0.1:1
output_schema: {type: object, properties: {customer_id: {type: string}}}
"""


@pytest.fixture
def environ(database_url: str) -> dict[str, str]:
    return {"DATABASE_URL": database_url}


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(DatabaseOptions(url=database_url, pool_size=1))
    await database.open()
    yield database
    await database.close()


def declared(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


@pytest.fixture
def crm(tmp_path: Path) -> str:
    return declared(tmp_path, "crm.yaml", CRM)


async def test_an_agent_is_added_changed_shown_and_removed(
    environ: dict[str, str], tmp_path: Path
) -> None:
    outcomes = []
    for text in (CRM, CRM, CRM.replace("Creates", "Finds")):
        outcomes += await told(environ, "agents", "add", declared(tmp_path, "crm.yaml", text))
    assert [o["outcome"] for o in outcomes] == ["added", "unchanged", "changed"]
    assert [a["id"] for a in await told(environ, "agents", "list")] == ["crm"]
    assert (await told(environ, "agents", "show", "crm"))["description"] == "Finds customers."
    assert (await told(environ, "agents", "remove", "crm"))["outcome"] == "removed"
    assert await told(environ, "agents", "list") == []


async def test_what_is_shown_can_be_added_again(
    environ: dict[str, str], crm: str, tmp_path: Path
) -> None:
    await told(environ, "agents", "add", crm)
    shown = (await called(environ, "agents", "show", "crm")).stdout
    (outcome,) = await told(environ, "agents", "add", declared(tmp_path, "shown.yaml", shown))
    assert outcome["outcome"] == "unchanged"


async def test_a_compensating_agent_that_is_not_there_is_told(
    environ: dict[str, str], tmp_path: Path
) -> None:
    text = f"{CRM}\ncompensation: {{agent: crm-undo}}\n"
    file = declared(tmp_path, "crm.yaml", text)
    done = await called(environ, "agents", "add", file)
    assert (done.returncode, done.stdout) == (0, "agent crm: added\n")
    assert "names 'crm-undo', which is not there yet" in done.stderr
    undo = declared(tmp_path, "undo.yaml", CRM.replace("id: crm", "id: crm-undo"))
    assert "not there" not in (await called(environ, "agents", "add", undo, file)).stderr


async def test_of_a_folder_with_one_wrong_file_nothing_is_added(
    environ: dict[str, str], crm: str, tmp_path: Path
) -> None:
    declared(tmp_path, "wrong.yaml", "id: Wrong")
    done = await called(environ, "agents", "add", str(tmp_path))
    assert done.returncode == 1
    assert "error: wrong.yaml: id:" in done.stderr
    assert await told(environ, "agents", "list") == []


async def test_a_declaration_is_filled_in_once_from_the_variables_that_are_allowed(
    environ: dict[str, str], tmp_path: Path
) -> None:
    file = declared(tmp_path, "crm.yaml", CRM.replace("http://127.0.0.1:1", "${CRM_URL}"))
    given = {**environ, "CRM_URL": "http://crm"}
    done = await called(given, "agents", "add", file)
    assert done.returncode == 1
    assert "uses ${CRM_URL}, but ORCHESTRATOR_DECLARATION_VARIABLES does not allow" in done.stderr
    allowed = {**given, "ORCHESTRATOR_DECLARATION_VARIABLES": "CRM_*,DEMO_AGENTS_URL"}
    await told(allowed, "agents", "add", file)
    assert (await told(environ, "agents", "show", "crm"))["endpoint"] == "http://crm"


@pytest.mark.parametrize("name", ["DATABASE_URL", "OPENAI_API_KEY"])
async def test_a_setting_of_the_service_is_never_filled_in(
    environ: dict[str, str], tmp_path: Path, name: str
) -> None:
    file = declared(tmp_path, "crm.yaml", CRM.replace("127.0.0.1:1", f"crm/${{{name}}}"))
    given = {**environ, "OPENAI_API_KEY": "k", "ORCHESTRATOR_DECLARATION_VARIABLES": name}
    done = await called(given, "agents", "add", file)
    assert f"endpoint: uses ${{{name}}}, but the variable {name} is not set" in done.stderr


async def test_what_somebody_stored_is_not_filled_in_and_hides_no_other_agent(
    database: Database, environ: dict[str, str], crm: str
) -> None:
    await told(environ, "agents", "add", crm)
    strange = {
        **dump(parse(yaml.safe_load(CRM), source="crm.yaml")),
        "id": "erp",
        "endpoint": "http://crm/${DEMO_AGENTS_URL:-x}",
    }
    await stored.put(database, strange, tenant="default", agent=AgentId("erp"))
    assert [agent.id for agent in await load_agents(database)] == ["crm"]
    done = await called(environ, "agents", "list")
    assert "agent 'erp' as it is stored: endpoint: holds ${DEMO_AGENTS_URL" in done.stderr
    assert done.stdout.splitlines()[1].startswith("crm")
    looked = await called(environ, "doctor")
    assert "agent 'erp' as it is stored: endpoint: holds ${DEMO_AGENTS_URL" in looked.stdout


async def test_an_agent_that_does_not_answer_is_not_ready(
    environ: dict[str, str], crm: str
) -> None:
    await told(environ, "agents", "add", crm)
    done = await called(environ, "agents", "check", "crm")
    assert done.returncode == 1
    assert done.stdout.splitlines()[1].split()[:2] == ["crm", "no"]


@pytest.mark.parametrize("command", ["show", "remove", "check"])
async def test_an_agent_that_is_not_there_is_told(environ: dict[str, str], command: str) -> None:
    done = await called(environ, "agents", command, "nobody")
    assert done.returncode == 1
    assert done.stderr.startswith("error: there is no agent 'nobody'")
