"""`orchestrator tasks cancel|pause|resume|resolve` as a person or a script calls them."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from orchestrator.domain.call import CallStatus
from orchestrator.domain.ids import AgentId, Seq
from orchestrator.domain.json import JsonObject
from orchestrator.domain.step import CallFinished
from orchestrator.domain.task import TaskStatus
from orchestrator.store.database import Database, DatabaseOptions
from orchestrator.store.journal import Rest
from tests.integration.cli.command import asked, called, told
from tests.integration.store.journaled import Journal
from tests.unit.engine.journals import delegated

ASKED = CallFinished(
    step=Seq(2),
    call=1,
    agent=AgentId("mail"),
    status=CallStatus.ACCEPTED,
    error="a person: whether call 2/1 of agent 'mail' took effect is unknown",
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


async def waiting(journal: Journal, task_id: str, *agents: str) -> None:
    task = await journal.accept(task_id)
    assert task is not None
    rest = Rest(status=TaskStatus.WAITING, reason="a person")
    await journal.write(task, (delegated(*(agents or ("mail",))), None), (ASKED, None), rest=rest)


async def inbox(journal: Journal) -> list[tuple[str, JsonObject]]:
    rows = await journal.database.fetch(
        "SELECT event_type, payload FROM inbox WHERE seq IS NULL ORDER BY id"
    )
    return [(r["event_type"], r["payload"]) for r in rows]


async def test_bytes_that_are_no_text_are_replaced_in_a_reason(
    journal: Journal, environ: dict[str, str]
) -> None:
    await waiting(journal, "a")
    await called(environ, "tasks", "cancel", "a", "--reason", "typo\udcff", "--by", "ops\udcff")
    assert await inbox(journal) == [("cancel", {"reason": "typo\ufffd", "by": "ops\ufffd"})]


async def test_named_tasks_are_cancelled_and_the_others_told_of(
    journal: Journal, environ: dict[str, str]
) -> None:
    await waiting(journal, "a")
    done = await called(
        environ, "tasks", "cancel", "a", "nobody", "--reason", "typo", "--by", "ops"
    )
    assert done.returncode == 1
    assert done.stdout == "cancelling task a (it was waiting)\n"
    assert "error: there is no task 'nobody'" in done.stderr
    assert await inbox(journal) == [("cancel", {"reason": "typo", "by": "ops"})]


async def test_many_are_told_only_when_it_was_confirmed(
    journal: Journal, environ: dict[str, str]
) -> None:
    await waiting(journal, "a")
    await waiting(journal, "b", "crm")
    flags = ("--filter", "status=waiting,agent=crm", "--by", "")
    refused = await called(environ, "tasks", "pause", *flags)
    assert refused.returncode == 2
    assert "1 task matches, and" in refused.stderr
    assert await inbox(journal) == []
    answer = await told(environ, "tasks", "pause", *flags, "--yes")
    assert answer == {
        "doing": "pausing",
        "tasks": [{"task_id": "b", "was": "waiting"}],
        "skipped": [],
        "errors": [],
    }
    assert await inbox(journal) == [("pause", {})]


async def test_what_a_pause_or_a_resume_would_not_change_is_skipped(
    journal: Journal, environ: dict[str, str]
) -> None:
    await waiting(journal, "a")
    await waiting(journal, "b")

    async def line(*arguments: str) -> str:
        done = await called(environ, "tasks", *arguments, "--by", "")
        assert done.returncode == 0, done.stderr
        return done.stdout or done.stderr

    assert await line("resume", "a") == "task a was not paused\n"
    assert await line("pause", "a") == "pausing task a (it was waiting)\n"
    assert await line("pause", "a") == "task a was paused already\n"
    skipped = (await told(environ, "tasks", "pause", "a"))["skipped"]
    assert skipped == [{"task_id": "a", "why": "was paused already"}]
    resumed = await line("resume", "--filter", "text=task", "--yes")
    assert resumed == "resuming 1 task; skipped 1 task that was not paused\n"
    assert await inbox(journal) == [("pause", {}), ("resume", {})]


async def test_a_task_that_has_not_come_is_told_once_it_comes(
    journal: Journal, environ: dict[str, str]
) -> None:
    await journal.expect("late")
    done = await called(environ, "tasks", "cancel", "late")
    assert done.stdout == (
        "cancelling task late once it comes (only events have come for it so far)\n"
    )
    forked = await called(environ, "tasks", "fork", "late", "--from-step", "1")
    assert forked.returncode == 1
    assert "task 'late' has no step 1: it is expected, and has none" in forked.stderr


async def test_a_status_given_twice_means_both(journal: Journal, environ: dict[str, str]) -> None:
    await waiting(journal, "a")
    await journal.accept("b")
    flags = ("--filter", "status=waiting,status=running", "--yes")
    answer = await told(environ, "tasks", "cancel", *flags)
    assert [task["task_id"] for task in answer["tasks"]] == ["a", "b"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "give the tasks' ids, or --filter"),
        (("a", "--filter", "status=waiting"), "give the tasks' ids, or --filter"),
        (("--filter", "state=waiting"), "known are status="),
        (("--filter", "waiting"), "known are status="),
        (("--filter", "status=failed"), "only tasks that are not over"),
        (("--filter", "older=yesterday"), "is no time"),
        (("--filter", "tenant=a,tenant=b"), "tenant= is given 2 times"),
        (("--filter", "text=a", "--filter", "text=b"), "text= is given 2 times"),
    ],
)
async def test_a_selection_that_means_nothing_is_refused(
    environ: dict[str, str], arguments: tuple[str, ...], says: str
) -> None:
    done = await called(environ, "tasks", "resume", *arguments)
    assert done.returncode == 2
    assert says in " ".join(done.stderr.replace("│", " ").split())


async def test_a_call_whose_outcome_nobody_knows_is_shown_and_resolved(
    journal: Journal, environ: dict[str, str]
) -> None:
    await waiting(journal, "a")
    text = (await called(environ, "tasks", "show", "a")).stdout
    assert "Idempotency-Key a/2/1: a person: whether call 2/1 of agent 'mail'" in text
    (call,) = (await told(environ, "tasks", "show", "a"))["open_calls"]
    assert (call["step"], call["call"], call["key"]) == (2, 1, "a/2/1")
    flags = ("--success", '{"sent": "yes"}', "--by", "ops", "--reason", "I asked them")
    await told(environ, "tasks", "resolve", "a", "--step", "2", *flags)
    answer = {"status": "success", "output": {"sent": "yes"}, "by": "ops", "reason": "I asked them"}
    assert await inbox(journal) == [("agent_result", answer)]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("a", "--step", "3", "--failed", "no"), 1, "no call 3 is open; open are: 2/1 of mail"),
        (("a", "--step", "2", "--failed", "no"), 1, "several calls of step 2 are open"),
        (("nobody", "--step", "2", "--failed", "no"), 1, "there is no task 'nobody'"),
        (("a", "--step", "2"), 2, "give --success or --failed"),
        (("a", "--step", "2", "--success", "[]"), 2, "expected a JSON object"),
        (("a", "--step", "2", "--success", '{"n": 1e999}'), 2, "larger than a double can be"),
        (("a", "--step", "2", "--call", "1", "--failed", " "), 2, "say why it was not done"),
    ],
)
async def test_a_resolution_that_answers_nothing_is_refused(
    journal: Journal, environ: dict[str, str], arguments: tuple[str, ...], code: int, says: str
) -> None:
    await waiting(journal, "a", "mail", "crm")
    done = await called(environ, "tasks", "resolve", *arguments)
    assert done.returncode == code
    assert says in " ".join(done.stderr.replace("│", " ").split())
    assert await inbox(journal) == []


@pytest.mark.parametrize(("answer", "code", "told_of"), [("n\n", 1, 0), ("y\n", 0, 2)])
async def test_a_person_at_a_terminal_is_asked_first(
    journal: Journal, environ: dict[str, str], answer: str, code: int, told_of: int
) -> None:
    await waiting(journal, "a")
    await waiting(journal, "b")
    done = await asked(environ, "tasks", "cancel", "--filter", "status=waiting", answer=answer)
    assert (done.returncode, len(await inbox(journal))) == (code, told_of)
    assert "cancelling 2 tasks? [y/N]" in done.stderr
