"""`orchestrator tasks history|fork` as a person or a script calls them."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from orchestrator.domain.call import CallStatus
from orchestrator.domain.decision import ModelMessage, Usage, Wait
from orchestrator.domain.ids import AgentId, Seq
from orchestrator.domain.step import (
    AttemptFailed,
    CallFinished,
    CallStarted,
    Cancelled,
    Decided,
    EventApplied,
    Rested,
    StepBody,
)
from orchestrator.domain.task import TaskStatus
from orchestrator.store.database import Database, DatabaseOptions
from orchestrator.store.journal import Rest
from tests.integration.cli.command import called, told
from tests.integration.store.journaled import Journal
from tests.unit.engine.journals import NOW, delegated

STEPS: tuple[StepBody, ...] = (
    delegated("mail"),
    CallStarted(step=Seq(2), call=1, agent=AgentId("mail")),
    AttemptFailed(step=Seq(2), call=1, agent=AgentId("mail"), attempt=1, error="503", retry_at=NOW),
    CallFinished(
        step=Seq(2),
        call=1,
        agent=AgentId("mail"),
        status=CallStatus.SUCCESS,
        attempt=2,
        duration_ms=400,
        by="ops",
        reason="I asked them",
    ),
    Decided(
        decision=Wait(waiting_for="an answer"),
        message=ModelMessage(text="The customer has to say."),
        model="some-model",
        usage=Usage(input_tokens=7, output_tokens=3),
    ),
    Rested(waiting_for="an answer"),
    EventApplied(event_type="cancel", payload={"by": "sales", "reason": "typo"}, source="cli"),
    Cancelled(reason="typo", by="sales", unknown=("t/2/1",)),
)


DEEP = '{"a":' * 65 + "1" + "}" * 65


@pytest_asyncio.fixture
async def journal(database_url: str) -> AsyncIterator[Journal]:
    database = Database(DatabaseOptions(url=database_url, pool_size=2))
    await database.open()
    made = Journal(database)
    task = await made.accept("t", required=["country"])
    assert task is not None
    rest = Rest(status=TaskStatus.CANCELLED, reason="typo")
    await made.write(task, *((body, None) for body in STEPS), rest=rest)
    yield made
    await database.close()


@pytest.fixture
def environ(database_url: str) -> dict[str, str]:
    return {"DATABASE_URL": database_url}


async def test_history_says_who_did_what_why_and_at_what_cost(
    journal: Journal, environ: dict[str, str]
) -> None:
    answer = await told(environ, "tasks", "history", "t")
    assert [(s["who"], s["what"], s["why"]) for s in answer["steps"]] == [
        ("tasks/0/0", "the task", "the task t"),
        ("planner", "call mail", ""),
        ("engine", "call 2/1 of mail goes out", "from here on it may have its effect"),
        ("mail", "try 1 failed", "503"),
        ("ops", "call 2/1 of mail: success", "I asked them"),
        ("some-model", "wait", "The customer has to say."),
        ("engine", "rest", "waits for an answer"),
        ("sales", "event cancel", "typo"),
        ("sales", "cancelled", "typo; may have had an effect: t/2/1"),
    ]
    assert {s["epoch"] for s in answer["steps"]} == {1}
    totals = answer["totals"]
    assert (totals["decisions"], totals["input_tokens"], totals["output_tokens"]) == (2, 7, 3)
    text = (await called(environ, "tasks", "history", "t")).stdout
    assert "The customer has to say." in text
    assert "decisions: 2, calls: 1" in text


async def test_a_task_goes_on_from_one_of_its_steps_under_a_new_id(
    journal: Journal, environ: dict[str, str]
) -> None:
    flags = ("--from-step", "5", "--set", '{"country": "DE"}', "--by", "ops", "--id", "again")
    done = await called(environ, "tasks", "fork", "t", *flags)
    assert done.stdout == "task again goes on from step 5 of task t\n", done.stderr
    shown = await told(environ, "tasks", "show", "again")
    assert (shown["status"], shown["context"]["collected_data"]) == ("ready", {"country": "DE"})
    steps = (await told(environ, "tasks", "history", "again"))["steps"]
    assert [s["epoch"] for s in steps] == [0] * 6
    assert (steps[5]["who"], steps[5]["what"]) == ("ops", "forked from t, step 5")


async def test_data_for_a_fork_is_cleaned_as_that_of_a_message_is(
    journal: Journal, environ: dict[str, str]
) -> None:
    flags = ("--from-step", "5", "--set", '{"country": "D\\u0000E\\ud800"}', "--id", "again")
    await told(environ, "tasks", "fork", "t", *flags)
    shown = await told(environ, "tasks", "show", "again")
    assert shown["context"]["collected_data"] == {"country": "D\ufffdE\ufffd"}


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("t", "--from-step", "99"), 1, "has no step 99: its steps are 1 to 9"),
        (("nobody", "--from-step", "1"), 1, "there is no task 'nobody'"),
        (("t", "--from-step", "1", "--id", "t"), 1, "there is a task 't' already"),
        (("t", "--from-step", "1", "--set", "{"), 2, "not JSON: Expecting property name"),
        (("t", "--from-step", "1", "--set", "[]"), 2, "expected a JSON object"),
        (("t", "--from-step", "1", "--set", f'{{"a": {2**64}}}'), 2, "does not fit into 64 bits"),
        (("t", "--from-step", "1", "--set", DEEP), 2, "nested too deeply: expected at most 64"),
        (("t", "--from-step", "1", "--id", "x" * 201), 2, "expected a text of 1 to 200 printable"),
        (("t", "--from-step", "1", "--id", "a\nb"), 2, "expected a text of 1 to 200 printable"),
        (("t", "--from-step", "1", "--id", ""), 2, "expected a text of 1 to 200 printable"),
    ],
)
async def test_what_can_not_be_forked_is_refused(
    journal: Journal, environ: dict[str, str], arguments: tuple[str, ...], code: int, says: str
) -> None:
    done = await called(environ, "tasks", "fork", *arguments)
    assert done.returncode == code
    assert says in " ".join(done.stderr.replace("│", " ").split())
