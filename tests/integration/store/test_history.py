import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import pytest_asyncio

from orchestrator.domain.call import Call, CallStatus
from orchestrator.domain.decision import Delegate, Usage
from orchestrator.domain.errors import NotAllowed, NotFound, SchemaMismatch
from orchestrator.domain.ids import AgentId, Seq, TaskId
from orchestrator.domain.json import JsonObject
from orchestrator.domain.step import CallFinished, Completed, Decided, Failed, Rested
from orchestrator.domain.task import TaskStatus
from orchestrator.store import operations
from orchestrator.store.database import Database, DatabaseOptions
from orchestrator.store.history import (
    TaskFilter,
    find_task,
    list_tasks,
    show_task,
    steps_of,
)
from orchestrator.store.journal import Rest
from tests.fakes.workers import cancel
from tests.integration.store.journaled import Journal

ASKED = Decided(
    decision=Delegate(calls=(Call(number=1, agent=AgentId("crm")),)),
    usage=Usage(input_tokens=10, output_tokens=2),
    duration_ms=150,
)
ANSWERED = CallFinished(
    step=Seq(2), call=1, agent=AgentId("crm"), status=CallStatus.SUCCESS, output={"a": 1}
)
WAITS = Rested(waiting_for="the customer")
WAITING = Rest(status=TaskStatus.WAITING, reason="the customer")
FAILED = Rest(status=TaskStatus.FAILED, reason="no agent")


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(DatabaseOptions(url=database_url, pool_size=4))
    await database.open()
    yield database
    await database.close()


@pytest_asyncio.fixture
async def journal(database: Database) -> Journal:
    return Journal(database)


async def waiting_task(journal: Journal, task_id: str = "order") -> TaskId:
    task = await journal.accept(task_id, required=["a", "b"])
    assert task is not None
    change: JsonObject = {"collected_data": {"a": 1}, "current_state": "asked the CRM"}
    await journal.write(task, (ASKED, None), (ANSWERED, change), (WAITS, None), rest=WAITING)
    return TaskId(task_id)


async def failed_task(journal: Journal, task_id: str = "order") -> TaskId:
    task = await journal.accept(task_id)
    assert task is not None
    await journal.write(task, (Failed(reason="no agent"), None), rest=FAILED)
    return TaskId(task_id)


async def test_a_task_is_shown_with_its_progress_and_what_it_waits_for(journal: Journal) -> None:
    details = await show_task(journal.database, await waiting_task(journal))
    row = details.row
    assert (row.status, row.reason) == (TaskStatus.WAITING, "the customer")
    assert (row.collected, row.required, row.missing) == (1, 2, ("b",))
    assert (row.steps, row.tokens, row.current_state) == (4, 12, "asked the CRM")
    assert (details.run_at, details.worker, details.unread) == (None, None, 0)


async def test_a_running_task_names_its_worker(journal: Journal) -> None:
    await journal.accept("order")
    assert (await show_task(journal.database, TaskId("order"))).worker == "test worker"


async def test_an_earlier_context_can_be_had_by_step(journal: Journal) -> None:
    task_id = await waiting_task(journal)
    collected = []
    for number in (1, 2, 3):
        details = await show_task(journal.database, task_id, step=Seq(number))
        collected.append(details.context["collected_data"])
    assert collected == [{}, {}, {"a": 1}]


async def test_a_step_that_is_not_there_has_no_context(journal: Journal) -> None:
    task_id = await waiting_task(journal)
    with pytest.raises(NotAllowed, match="'order' has no step 99: its steps are 1 to 4"):
        await show_task(journal.database, task_id, step=Seq(99))
    await journal.expect("late")
    with pytest.raises(NotAllowed, match="'late' has no step 1: it is expected, and has none"):
        await show_task(journal.database, TaskId("late"), step=Seq(1))


async def test_an_earlier_context_can_be_had_by_time(journal: Journal) -> None:
    task_id = await waiting_task(journal)
    steps = await steps_of(journal.database, task_id)
    first = await show_task(journal.database, task_id, at=steps[0].at)
    assert first.context["collected_data"] == {}
    before = steps[0].at - timedelta(seconds=1)
    with pytest.raises(NotFound, match="'order' was not there yet at "):
        await show_task(journal.database, task_id, at=before)


async def test_steps_say_who_did_what_at_which_cost(journal: Journal) -> None:
    task_id = await waiting_task(journal)
    steps = await steps_of(journal.database, task_id, after=Seq(1))
    assert [s.seq for s in steps] == [2, 3, 4]
    assert (steps[0].agent, steps[0].status, steps[0].duration_ms) == ("crm", "delegate", 150)
    assert (steps[0].input_tokens, steps[0].output_tokens) == (10, 2)
    assert (steps[1].kind, steps[1].status, steps[2].summary) == (
        "result",
        "success",
        "the customer",
    )


async def test_the_summary_of_a_result_is_what_the_agent_answered(journal: Journal) -> None:
    task_id = await waiting_task(journal)
    assert (await steps_of(journal.database, task_id))[2].summary == '{"a": 1}'


async def test_the_summary_passes_over_an_empty_reason_as_an_earlier_release_wrote_it(
    journal: Journal,
) -> None:
    task_id = await waiting_task(journal)
    await journal.database.fetch(
        """UPDATE steps SET body = body || '{"reason": ""}' WHERE kind = 'result'"""
    )
    assert (await steps_of(journal.database, task_id))[2].summary == '{"a": 1}'


async def test_a_completed_task_shows_its_result(journal: Journal) -> None:
    task = await journal.accept("order")
    assert task is not None
    done = Completed(result={"a": 1})
    await journal.write(task, (done, None), rest=Rest(status=TaskStatus.COMPLETED))
    details = await show_task(journal.database, TaskId("order"))
    assert details.result == {"a": 1}
    assert details.row.is_over
    assert details.row.finished_at is not None


async def test_lists_are_filtered_and_paged_newest_first(journal: Journal) -> None:
    for number in range(5):
        await journal.accept(f"order-{number}", is_claimed=number % 2 == 0)

    async def ids(wanted: TaskFilter) -> list[str]:
        return [row.task_id for row in await list_tasks(journal.database, wanted)]

    assert await ids(TaskFilter(limit=2)) == ["order-4", "order-3"]
    assert await ids(TaskFilter(limit=2, after=TaskId("order-3"))) == ["order-2", "order-1"]
    assert await ids(TaskFilter(statuses=(TaskStatus.READY,))) == ["order-3", "order-1"]
    assert await ids(TaskFilter(text="TASK ORDER-2")) == ["order-2"]
    assert await ids(TaskFilter(tenant="nobody")) == []
    with pytest.raises(NotFound, match="there is no task 'nobody'"):
        await ids(TaskFilter(after=TaskId("nobody")))


async def test_a_task_that_is_not_there_is_not_found(database: Database) -> None:
    with pytest.raises(NotFound, match="there is no task 'nobody'"):
        await find_task(database, TaskId("nobody"))
    with pytest.raises(NotFound):
        await operations.retry(database, TaskId("nobody"))


async def test_cancelling_wakes_a_waiting_task_and_leaves_the_journal_to_its_runner(
    journal: Journal,
) -> None:
    task_id = await waiting_task(journal)
    await cancel(journal.database, task_id, reason="typo")
    details = await show_task(journal.database, task_id)
    assert (details.row.status, details.row.steps, details.unread) == (TaskStatus.READY, 4, 1)
    assert await journal.column("order", "wake") == 1


async def test_cancelling_leaves_a_running_task_with_its_worker(journal: Journal) -> None:
    await journal.accept("order")
    await cancel(journal.database, "order")
    details = await show_task(journal.database, TaskId("order"))
    assert (details.row.status, details.unread) == (TaskStatus.RUNNING, 1)
    assert await journal.column("order", "wake") == 1


async def test_retrying_journals_a_step_tells_kafka_and_makes_the_task_ready(
    journal: Journal,
) -> None:
    task_id = await failed_task(journal)
    epoch = await journal.column("order", "epoch")
    assert await operations.retry(journal.database, task_id) is TaskStatus.FAILED
    row = await find_task(journal.database, task_id)
    steps = await steps_of(journal.database, task_id)
    outbox = await journal.database.fetch("SELECT seq FROM outbox ORDER BY id")
    assert (row.status, row.reason, row.finished_at) == (TaskStatus.READY, None, None)
    assert [s.kind for s in steps] == ["accepted", "failed", "retried"]
    assert [r["seq"] for r in outbox] == [1, 2, 3]
    assert await journal.column("order", "epoch") == int(str(epoch)) + 1


async def test_of_two_retries_at_once_one_is_done(journal: Journal) -> None:
    task_id = await failed_task(journal)
    retries = (operations.retry(journal.database, task_id) for _ in range(8))
    outcomes = await asyncio.gather(*retries, return_exceptions=True)
    assert sum(isinstance(outcome, NotAllowed) for outcome in outcomes) == 7
    assert [s.seq for s in await steps_of(journal.database, task_id)] == [1, 2, 3]


async def test_only_a_task_that_failed_can_be_retried(journal: Journal) -> None:
    task_id = await waiting_task(journal)
    with pytest.raises(NotAllowed, match="is waiting; only a failed or quarantined"):
        await operations.retry(journal.database, task_id)
    await journal.expect("events only")
    with pytest.raises(NotAllowed, match="publish the task itself"):
        await operations.retry(journal.database, TaskId("events only"))


async def test_a_database_without_the_schema_says_what_to_do(database: Database) -> None:
    await database.fetch("DROP VIEW task_progress")
    with pytest.raises(SchemaMismatch, match="run `orchestrator migrate`"):
        await find_task(database, TaskId("order"))
