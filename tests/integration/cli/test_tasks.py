import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from orchestrator.domain.call import CallStatus
from orchestrator.domain.decision import Complete, Usage
from orchestrator.domain.ids import AgentId, Seq
from orchestrator.domain.step import CallFinished, Completed, Decided, Failed
from orchestrator.domain.task import TaskStatus
from orchestrator.store.database import Database, DatabaseOptions
from orchestrator.store.journal import Rest
from tests.integration.cli.command import called, told
from tests.integration.store.journaled import Journal

DECIDED = Decided(decision=Complete(), usage=Usage(input_tokens=7, output_tokens=3))
RESULT = CallFinished(
    step=Seq(2), call=1, agent=AgentId("crm"), status=CallStatus.SUCCESS, duration_ms=40
)


@pytest_asyncio.fixture
async def journal(database_url: str) -> AsyncIterator[Journal]:
    database = Database(DatabaseOptions(url=database_url, pool_size=2))
    await database.open()
    yield Journal(database)
    await database.close()


@pytest.fixture
def environ(database_url: str) -> dict[str, str]:
    return {"DATABASE_URL": database_url}


async def completed(journal: Journal, task_id: str) -> None:
    task = await journal.accept(task_id, required=["a", "b"])
    assert task is not None
    change = {"collected_data": {"a": "[bold]x", "b": 2}}
    await journal.write(
        task,
        (DECIDED, None),
        (RESULT, json.loads(json.dumps(change))),
        (Completed(result={"a": "[bold]x"}), None),
        rest=Rest(status=TaskStatus.COMPLETED),
    )


async def failed(journal: Journal, task_id: str) -> None:
    task = await journal.accept(task_id)
    assert task is not None
    rest = Rest(status=TaskStatus.FAILED, reason="no agent")
    await journal.write(task, (Failed(reason="no agent"), None), rest=rest)


async def test_a_list_is_a_table_for_people(journal: Journal, environ: dict[str, str]) -> None:
    await completed(journal, "order-1")
    await failed(journal, "order-2")
    done = await called(environ, "tasks", "list")
    heading, second, first = done.stdout.splitlines()
    assert heading.split() == [
        "TASK",
        "STATUS",
        "PROGRESS",
        "STEPS",
        "TOKENS",
        "AGE",
        "STATE",
        "DESCRIPTION",
    ]
    assert first.startswith("order-1  completed  2 of 3 fields"[:19])
    assert "2 of 2 fields" in first
    assert "no agent" in second
    assert "\x1b" not in done.stdout


async def test_a_list_as_json_is_filtered(journal: Journal, environ: dict[str, str]) -> None:
    await completed(journal, "order-1")
    await failed(journal, "order-2")
    (row,) = await told(environ, "tasks", "list", "--status", "failed")
    assert (row["task_id"], row["status"], row["reason"]) == ("order-2", "failed", "no agent")


async def test_a_task_is_shown_with_context_and_steps(
    journal: Journal, environ: dict[str, str]
) -> None:
    await completed(journal, "order")
    text = (await called(environ, "tasks", "show", "order")).stdout
    assert "██████████ 2 of 2 fields" in text
    assert '"a": "[bold]x"' in text
    assert "7+3" in text
    assert "crm" in text


async def test_a_task_as_json_has_its_earlier_context(
    journal: Journal, environ: dict[str, str]
) -> None:
    await completed(journal, "order")
    task = await told(environ, "tasks", "show", "order", "--step", "2")
    assert task["context"]["collected_data"] == {}
    assert [step["seq"] for step in task["steps"]] == [1, 2]
    whole = await told(environ, "tasks", "show", "order", "--at", task["steps"][0]["at"])
    assert [step["seq"] for step in whole["steps"]] == [1]


async def test_watching_a_completed_task_exits_0(journal: Journal, environ: dict[str, str]) -> None:
    await completed(journal, "order")
    done = await called(environ, "tasks", "watch", "order")
    assert done.returncode == 0
    assert [line.split()[2] for line in done.stdout.splitlines()[:-1]] == [
        "accepted",
        "decision",
        "result",
        "completed",
    ]


async def test_watching_a_failed_task_exits_1(journal: Journal, environ: dict[str, str]) -> None:
    await failed(journal, "order")
    done = await called(environ, "tasks", "watch", "order", "--json")
    assert done.returncode == 1
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines[-1]["task"]["status"] == "failed"


async def test_watching_all_ends_when_the_time_is_up(
    journal: Journal, environ: dict[str, str]
) -> None:
    await completed(journal, "order")
    done = await called(environ, "tasks", "watch", "--timeout", "0.5")
    assert done.returncode == 0, done.stderr
    assert "order" in done.stdout


async def test_a_task_is_not_there_before_it_came(
    journal: Journal, environ: dict[str, str]
) -> None:
    await completed(journal, "order")
    done = await called(environ, "tasks", "show", "order", "--at", "2020-01-01T00:00:00Z")
    assert done.returncode == 1
    assert "task 'order' was not there yet at 2020-01-01" in done.stderr


async def test_watching_ends_when_the_time_is_up(environ: dict[str, str]) -> None:
    done = await called(environ, "tasks", "watch", "nobody", "--timeout", "0.5")
    assert done.returncode == 1
    assert "error: there is no task 'nobody'" in done.stderr


async def test_cancel_and_retry_say_what_was(journal: Journal, environ: dict[str, str]) -> None:
    await failed(journal, "order")
    assert (await told(environ, "tasks", "retry", "order"))["was"] == "failed"
    cancelled = await told(environ, "tasks", "cancel", "order", "--reason", "typo")
    assert cancelled["tasks"] == [{"task_id": "order", "was": "ready"}]
    again = await called(environ, "tasks", "retry", "order")
    assert again.returncode == 1
    assert again.stderr == (
        "error: task 'order' is ready; only a failed or quarantined task can be retried\n"
    )


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--by", "ops", "--reason", "agent added"), {"by": "ops", "reason": "agent added"}),
        (("--by", ""), {}),
    ],
)
async def test_who_sends_a_task_back_to_work_and_why_is_in_the_journal(
    journal: Journal, environ: dict[str, str], flags: tuple[str, ...], said: dict[str, str]
) -> None:
    await failed(journal, "order")
    await told(environ, "tasks", "retry", "order", *flags)
    row = await journal.database.fetch_one("SELECT body FROM steps WHERE kind = 'retried'")
    assert row is not None
    assert row["body"] == said
    last = (await told(environ, "tasks", "history", "order"))["steps"][-1]
    assert (last["who"], last["why"]) == (said.get("by", "a person"), said.get("reason", ""))


async def test_migrating_twice_changes_nothing(environ: dict[str, str]) -> None:
    assert (await told(environ, "migrate"))["migrated"] is False
    assert (await told(environ, "migrate", "--check"))["current"] is True


async def test_a_look_at_the_schema_says_what_is_there_and_migrates_nothing(
    journal: Journal, environ: dict[str, str]
) -> None:
    await journal.database.fetch("DROP SCHEMA public CASCADE")
    await journal.database.fetch("CREATE SCHEMA public")
    done = await called(environ, "migrate", "--check", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout) == {"current": False, "revision": None, "migrated": False}


async def test_a_database_without_tables_says_what_to_do(
    journal: Journal, environ: dict[str, str]
) -> None:
    await journal.database.fetch("DROP TABLE tasks CASCADE")
    done = await called(environ, "tasks", "list")
    assert done.returncode == 1
    assert "run `orchestrator migrate`" in done.stderr
    assert "Traceback" not in done.stderr


async def test_a_task_shows_what_is_left_of_its_budget(
    journal: Journal, environ: dict[str, str]
) -> None:
    await completed(journal, "order")
    limits = {"ORCHESTRATOR_MAX_TOKENS": "50", "ORCHESTRATOR_MAX_COST": "0.5"}
    text = (await called(environ | limits, "tasks", "show", "order")).stdout
    assert "tokens 10 of 50, cost 0.00 of 0.50, steps 4 of 100" in text
    account = (await told(environ, "tasks", "show", "order", "--no-steps"))["account"]
    assert account["tokens"] == {"used": 10, "left": 199_990}
    assert account["cost"] == {"used": 0.0, "left": None}


async def test_a_budget_is_topped_up(journal: Journal, environ: dict[str, str]) -> None:
    assert await journal.accept("order") is not None
    done = await told(environ, "tasks", "top-up", "order", "--tokens", "5", "--cost", "0.5")
    assert (done["doing"], done["tasks"][0]["task_id"]) == ("topping up", "order")
    row = await journal.database.fetch_one(
        "SELECT event_type, payload FROM inbox WHERE seq IS NULL"
    )
    assert row is not None
    assert row["event_type"] == "top_up"
    assert row["payload"]["budget"] == {"tokens": 5, "cost": 0.5}


async def test_a_budget_of_a_task_that_is_over_is_not_topped_up(
    journal: Journal, environ: dict[str, str]
) -> None:
    await failed(journal, "order")
    done = await called(environ, "tasks", "top-up", "order", "--tokens", "5")
    assert done.returncode == 1
    assert "it is over already" in done.stderr
    assert (await called(environ, "tasks", "top-up", "order")).returncode == 2
