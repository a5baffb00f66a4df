from pathlib import Path

import pytest

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
