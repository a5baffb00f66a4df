"""What people tell tasks: it reaches those that are meant, and waits in their inboxes."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from orchestrator.domain.call import CallStatus
from orchestrator.domain.ids import AgentId, Seq, TaskId
from orchestrator.domain.step import (
    AttemptFailed,
    CallFinished,
    CallParked,
    EventApplied,
    Failed,
    Rested,
    Retried,
)
from orchestrator.domain.task import TaskStatus
from orchestrator.store import control
from orchestrator.store.control import Message, Selection, count, tell
from orchestrator.store.database import Database, DatabaseOptions
from orchestrator.store.journal import Rest
from orchestrator.store.open_calls import open_calls
from tests.integration.store.journaled import Journal
from tests.unit.engine.journals import delegated

PAUSE = Message(event_type="pause", payload={"by": "ops"})
WAITS = Rest(status=TaskStatus.WAITING, reason="more")


@pytest_asyncio.fixture(loop_scope="session")
async def journal(database_url: str) -> AsyncIterator[Journal]:
    database = Database(DatabaseOptions(url=database_url, pool_size=4))
    await database.open()
    yield Journal(database)
    await database.close()


async def waiting(journal: Journal, task_id: str, *, agent: str = "crm") -> None:
    task = await journal.accept(task_id)
    assert task is not None
    await journal.write(task, (delegated(agent), None), rest=WAITS)


async def failed(journal: Journal, task_id: str) -> None:
    task = await journal.accept(task_id)
    assert task is not None
    rest = Rest(status=TaskStatus.FAILED, reason="no")
    await journal.write(task, (Failed(reason="no"), None), rest=rest)


async def test_named_tasks_are_told_and_those_that_are_over_or_not_there_are_not(
    journal: Journal,
) -> None:
    await waiting(journal, "a")
    await failed(journal, "b")
    await journal.accept("c")
    meant = Selection(task_ids=(TaskId("a"), TaskId("b"), TaskId("c"), TaskId("nobody")))
    told = await tell(journal.database, PAUSE, meant)
    assert {t.task_id: (t.was, t.is_told) for t in told} == {
        "a": ("waiting", True),
        "b": ("failed", False),
        "c": ("running", True),
    }
    assert control.missing(told, meant) == ["nobody"]
    assert [await journal.column(t, "status") for t in "abc"] == ["ready", "failed", "running"]
    assert [await journal.column(t, "wake") for t in "abc"] == [1, 0, 1]


async def test_what_the_journal_has_paused_is_not_paused_again(journal: Journal) -> None:
    task = await journal.accept("a")
    assert task is not None
    paused = EventApplied(event_type="pause")
    await journal.write(task, (paused, None), (Rested(waiting_for="resume"), None), rest=WAITS)
    meant = Selection(task_ids=(TaskId("a"),))

    async def is_told(event_type: str) -> bool:
        (told,) = await tell(journal.database, Message(event_type=event_type), meant)
        return told.is_told

    said = [await is_told(word) for word in ("pause", "resume", "resume", "pause", "cancel")]
    assert said == [False, True, False, True, True]


async def test_a_pause_of_before_a_retry_is_over(journal: Journal) -> None:
    task = await journal.accept("a")
    assert task is not None
    steps = (EventApplied(event_type="pause"), Failed(reason="no"), Retried())
    await journal.write(task, *((body, None) for body in steps), rest=WAITS)
    meant = Selection(task_ids=(TaskId("a"),))
    (told,) = await tell(journal.database, Message(event_type="resume"), meant)
    assert not told.is_told


async def test_a_filter_means_the_tasks_that_pass_all_of_it(journal: Journal) -> None:
    await waiting(journal, "a")
    await waiting(journal, "b", agent="mail")
    await journal.accept("c")
    now = datetime.now(UTC)

    async def ids(**narrowed: Any) -> list[str]:
        meant = Selection(**{"statuses": control.UNFINISHED, **narrowed})
        told = await tell(journal.database, PAUSE, meant)
        assert (await count(journal.database, meant)).tasks == len(told)
        return [t.task_id for t in told]

    assert await ids() == ["a", "b", "c"]
    assert await ids(agent="mail") == ["b"]
    assert await ids(statuses=(TaskStatus.RUNNING,)) == ["c"]
    assert await ids(tenant="another") == []
    assert await ids(text="TASK B") == ["b"]
    assert await ids(older_than=now + timedelta(hours=1), agent="crm") == ["a"]
    assert await ids(older_than=now - timedelta(hours=1)) == []


async def test_thousands_are_told_in_steps_and_each_once(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    await journal.database.fetch(
        "INSERT INTO tasks (task_id, status, run_at)"
        " SELECT 't-' || n, 'waiting', 'infinity' FROM generate_series(1, 2500) n"
    )
    meant = Selection(statuses=(TaskStatus.WAITING,))
    counted = await count(journal.database, meant)
    await journal.database.fetch("INSERT INTO tasks (task_id, status) VALUES ('new', 'waiting')")
    told = await tell(journal.database, PAUSE, meant, upto=counted.last)
    assert (counted.tasks, len(told), len({t.task_id for t in told})) == (2500, 2500, 2500)
    rows = await journal.database.fetch("SELECT count(*) n, count(DISTINCT task) d FROM inbox")
    assert (rows[0]["n"], rows[0]["d"]) == (2500, 2500)
    assert await journal.column("new", "wake") == 0


async def test_open_calls_are_those_of_the_last_decision_without_a_result(
    journal: Journal,
) -> None:
    task = await journal.accept("t")
    assert task is not None
    later = datetime.now(UTC)
    asked = CallFinished(
        step=Seq(2), call=1, agent=AgentId("crm"), status=CallStatus.ACCEPTED, error="a person: ?"
    )
    done = CallFinished(step=Seq(2), call=2, agent=AgentId("mail"), status=CallStatus.ERROR)
    again = AttemptFailed(
        step=Seq(2), call=3, agent=AgentId("bill"), attempt=1, error="503", retry_at=later
    )
    decided = delegated("crm", "mail", "bill", "ship")
    await journal.write(
        task, (decided, None), (asked, None), (done, None), (again, None), rest=WAITS
    )
    found = await open_calls(journal.database, TaskId("t"))
    assert [(c.call, c.agent, c.key, c.state) for c in found] == [
        (1, "crm", "t/2/1", "a person: ?"),
        (3, "bill", "t/2/3", "503"),
        (4, "ship", "t/2/4", "under way"),
    ]
    assert await open_calls(journal.database, TaskId("nobody")) == []


@pytest.mark.parametrize(
    ("status", "may_be_sent", "state"),
    [
        (TaskStatus.WAITING, False, "parked: agent 'crm' is paused"),
        (TaskStatus.WAITING, True, "parked: agent 'crm' is paused"),
        (TaskStatus.RUNNING, False, "parked: agent 'crm' is paused"),
        (TaskStatus.RUNNING, True, "parked, or under way again: agent 'crm' is paused"),
    ],
)
async def test_an_open_call_that_is_parked_is_not_said_to_be_under_way(
    journal: Journal, status: TaskStatus, may_be_sent: bool, state: str
) -> None:
    task = await journal.accept("t")
    assert task is not None
    parked = CallParked(
        step=Seq(2),
        call=1,
        agent=AgentId("crm"),
        target="agent/default/crm",
        cause="paused",
        reason="agent 'crm' is paused",
        until=datetime.now(UTC),
        may_be_sent=may_be_sent,
    )
    rest = WAITS if status is TaskStatus.WAITING else None
    await journal.write(task, (delegated("crm"), None), (parked, None), rest=rest)
    (call,) = await open_calls(journal.database, TaskId("t"))
    assert call.state == state
