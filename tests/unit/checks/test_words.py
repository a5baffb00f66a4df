"""The word check finds mocks, sleeps and loose SQL, and leaves their neighbours alone."""

from pathlib import Path

import pytest

from scripts.checks import words
from scripts.checks.sources import parse


def found(path: str, text: str) -> list[str]:
    return [finding.message for finding in words.check(parse(Path(path), text))]


@pytest.mark.parametrize(
    "text",
    [
        "import unittest.mock",
        "from unittest import mock",
        "from unittest.mock import patch",
        "import mock",
        "from pytest_mock import MockerFixture",
    ],
)
def test_a_mock_is_found_wherever_it_is(text: str) -> None:
    assert len(found("tests/unit/test_task.py", text)) == 1
    assert len(found("orchestrator/engine/runner.py", text)) == 1


@pytest.mark.parametrize(
    "text", ["await asyncio.sleep(0.1)", "time.sleep(1)", "await asyncio.sleep(delay)"]
)
def test_a_sleep_is_found_in_tests_alone(text: str) -> None:
    function = f"async def test() -> None:\n    {text}\n"
    assert len(found("tests/integration/test_bus.py", function)) == 1
    assert found("tests/fakes/waiting.py", function) == []
    assert found("orchestrator/engine/claims.py", function) == []


def test_a_sleep_in_a_loop_with_a_deadline_waits_for_a_condition() -> None:
    loop = "        while not ready():\n            await asyncio.sleep(0.1)\n"
    head = "async def test() -> None:\n    async with {}:\n"
    path = "tests/integration/test_bus.py"
    assert found(path, head.format("asyncio.timeout(5)") + loop) == []
    assert len(found(path, head.format("server()") + loop)) == 1


def test_giving_way_to_other_tasks_is_no_sleep() -> None:
    assert found("tests/unit/test_task.py", "async def test():\n    await asyncio.sleep(0)\n") == []


@pytest.mark.parametrize(
    "text",
    [
        'f"SELECT id FROM {table}"',
        'f"""\n  INSERT INTO {table} VALUES (1)"""',
        'f"UPDATE {table} SET x = 1"',
        'f"DROP TABLE {table}"',
    ],
)
def test_sql_put_together_is_found_outside_the_store(text: str) -> None:
    assert len(found("orchestrator/engine/claims.py", text)) == 1
    assert found("orchestrator/store/claims.py", text) == []


@pytest.mark.parametrize("text", ["httpx.AsyncClient()", "aiohttp.ClientSession(timeout=1)"])
def test_an_http_client_is_found_outside_its_home(text: str) -> None:
    assert len(found("orchestrator/agents/callers/http_json.py", text)) == 1
    assert found("orchestrator/agents/http.py", text) == []
    assert found("tests/integration/test_agents.py", text) == []


def test_a_sentence_is_not_sql() -> None:
    assert found("orchestrator/cli/main.py", 'f"Update {name} by hand. DELETE {name} first."') == []


def test_a_reason_on_the_line_excuses_it() -> None:
    line = 'print(f"SELECT context FROM tasks WHERE id = {id}")'
    assert len(found("orchestrator/cli/main.py", line)) == 1
    assert found("orchestrator/cli/main.py", f"{line}  # words: shown to the user") == []
