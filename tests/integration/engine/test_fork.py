"""Time travel: a task goes on from any step of another's journal, and repeats nothing of it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orchestrator.domain.compensation import Compensation
from orchestrator.domain.decision import Fail, Turn, Usage, Wait
from orchestrator.domain.errors import NotAllowed, NotFound
from orchestrator.domain.ids import AgentId, Seq, TaskId
from orchestrator.domain.step import Forked
from orchestrator.engine.options import TaskLimits
from orchestrator.store import operations
from orchestrator.store.database import Database
from orchestrator.store.fork import fork
from orchestrator.store.replays import replays_of_tasks
from tests.fakes.bus import until
from tests.fakes.scripted_caller import Gate, ScriptedCaller, agent, says, success
from tests.fakes.scripted_planner import ScriptedPlanner, complete, delegate
from tests.fakes.workers import (
    Feed,
    cancel,
    context_of,
    kinds,
    reaches,
    running_worker,
    task_row,
)

NEW = TaskId("f")


async def forked(database: Database, step: int, **given: Any) -> None:
    await fork(database, Forked(task="t", step=Seq(step), by="ops", given=given), new=NEW)


async def journal_of(database: Database, task_id: str, *, upto: int) -> list[tuple[Any, ...]]:
    rows = await database.fetch(
        "SELECT seq, kind, body, change, at FROM task_steps WHERE task_id = $1 AND seq <= $2"
        " ORDER BY seq",
        task_id,
        upto,
    )
    return [tuple(row) for row in rows]


async def test_a_fork_shares_the_journal_and_makes_no_journaled_call_again(
    database: Database, feed: Feed
) -> None:
    planner = ScriptedPlanner(delegate("crm"), delegate("billing"), complete())
    caller = ScriptedCaller(crm=says(success(customer_id="c-1")))
    async with running_worker(database, planner=planner, caller=caller) as worker:
        await feed.task("t", to=worker)
        await reaches(database, "t", "completed")
        await forked(database, 3)
        worker.wake()
        row = await reaches(database, "f", "completed")
    assert row["context"]["collected_data"] == {"customer_id": "c-1"}
    assert caller.sends == {"t/2/1": 1, "t/4/1": 1, "f/5/1": 1}
    assert planner.asks[NEW, 0] == 0
    assert await journal_of(database, "f", upto=3) == await journal_of(database, "t", upto=3)
    assert (await kinds(database, "f"))[3:] == [
        *("forked", "decision", "result", "decision", "completed")
    ]


async def test_a_fork_goes_on_with_what_it_was_given(database: Database, feed: Feed) -> None:
    planner = ScriptedPlanner(Wait(waiting_for="a country"), complete())
    async with running_worker(database, planner=planner, caller=ScriptedCaller()) as worker:
        await feed.task("t", required=("country",), to=worker)
        await reaches(database, "t", "waiting")
        await forked(database, 2, country="DE", note="n")
        worker.wake()
        row = await reaches(database, "f", "completed")
    assert row["context"]["event_data"] == {"country": "DE", "note": "n"}
    assert row["context"]["collected_data"] == {"country": "DE"}
    assert row["context"] == await context_of(database, "f")
    assert (await task_row(database, "t"))["status"] == "waiting"


async def test_a_fork_that_was_given_nothing_waits_as_the_task_did(
    database: Database, feed: Feed
) -> None:
    planner = ScriptedPlanner(Wait(waiting_for="a country"))
    async with running_worker(database, planner=planner, caller=ScriptedCaller()) as worker:
        await feed.task("t", to=worker)
        await reaches(database, "t", "waiting")
        await forked(database, 2)
        worker.wake()
        row = await reaches(database, "f", "waiting")
    assert (row["reason"], planner.asks[NEW, 1]) == ("a country", 0)


async def test_a_fork_makes_unfinished_calls_under_its_own_keys(
    database: Database, feed: Feed
) -> None:
    gate = Gate(success(invoice_id="i-1"))
    planner = ScriptedPlanner(delegate("crm", "billing", "mail"), complete())
    caller = ScriptedCaller(crm=says(success(customer_id="c-1")), billing=gate, mail=gate)
    async with running_worker(database, planner=planner, caller=caller) as worker:
        await feed.task("t", to=worker)
        await gate.entered.wait()
        await reaches_step(database, "t", "result")
        await forked(database, 4)
        gate.opened.set()
        worker.wake()
        await reaches(database, "f", "completed")
        await reaches(database, "t", "completed")
    ours = {key: times for key, times in caller.sends.items() if key.startswith("f/")}
    assert ours == {"f/2/2": 1, "f/2/3": 1}
    assert caller.asked == {}


async def reaches_step(database: Database, task_id: str, kind: str) -> None:
    async def is_there() -> bool:
        return kind in await kinds(database, task_id)

    await until(is_there, seconds=5)


async def test_a_fork_of_what_was_cancelled_goes_on(database: Database, feed: Feed) -> None:
    planner = ScriptedPlanner(Wait(waiting_for="more"), complete())
    async with running_worker(database, planner=planner, caller=ScriptedCaller()) as worker:
        await feed.task("t", to=worker)
        await reaches(database, "t", "waiting")
        await cancel(database, "t", reason="typo")
        worker.wake()
        await reaches(database, "t", "cancelled")
        await forked(database, 5, right="now")
        worker.wake()
        await reaches(database, "f", "completed")
    assert (await task_row(database, "t"))["status"] == "cancelled"


async def test_a_fork_counts_its_own_steps_and_tokens_only(database: Database, feed: Feed) -> None:
    async def costly(_: object) -> Turn:
        return Turn(decision=delegate("crm"), usage=Usage(input_tokens=80))

    planner = ScriptedPlanner(costly, costly, complete())
    limits = TaskLimits(max_tokens=100)
    async with running_worker(
        database, planner=planner, caller=ScriptedCaller(), limits=limits
    ) as worker:
        await feed.task("t", deadline=datetime.now(UTC) + timedelta(seconds=30), to=worker)
        await reaches(database, "t", "failed")
        await forked(database, 3)
        worker.wake()
        row = await reaches(database, "f", "completed")
    assert row["tokens"] == 80
    assert row["deadline"] is not None


async def test_a_deadline_that_is_over_does_not_bind_a_fork(database: Database, feed: Feed) -> None:
    planner = ScriptedPlanner(complete())
    async with running_worker(database, planner=planner, caller=ScriptedCaller()) as worker:
        await feed.task("t", deadline=datetime.now(UTC) - timedelta(seconds=1), to=worker)
        await reaches(database, "t", "failed")
        await forked(database, 1)
        worker.wake()
        await reaches(database, "f", "completed")


async def test_a_fork_that_failed_is_retried_though_the_other_task_was_undone(
    database: Database, feed: Feed
) -> None:
    undone = agent("crm", compensation=Compensation(agent=AgentId("undo")))
    no = Fail(reason="no")
    planner = ScriptedPlanner(delegate("crm"), no, by_task={"f": (no, no, no, complete())})
    caller, agents = ScriptedCaller(), (undone, agent("undo"))
    async with running_worker(database, planner=planner, caller=caller, agents=agents) as worker:
        await feed.task("t", to=worker)
        row = await reaches(database, "t", "failed")
        await forked(database, row["seq"])
        worker.wake()
        await reaches(database, "f", "failed")
        await operations.retry(database, NEW)
        worker.wake()
        await reaches(database, "f", "completed")
    with pytest.raises(NotAllowed, match="effects were undone"):
        await operations.retry(database, TaskId("t"))


async def test_a_fork_was_not_sent_back_to_work_because_the_other_task_was(
    database: Database, feed: Feed
) -> None:
    no = Fail(reason="no")
    planner = ScriptedPlanner(by_task={"t": (no,) * 4, "f": (no,) * 5})
    async with running_worker(database, planner=planner, caller=ScriptedCaller()) as worker:
        await feed.task("t", to=worker)
        await reaches(database, "t", "failed")
        for _ in range(3):
            await operations.retry(database, TaskId("t"))
            worker.wake()
            await reaches(database, "t", "failed")
        await forked(database, (await task_row(database, "t"))["seq"])
        worker.wake()
        await reaches(database, "f", "failed")
    assert await replays_of_tasks(database, [TaskId("t"), NEW]) == {"t": 3}
    await operations.retry(database, NEW)
    assert await replays_of_tasks(database, [NEW]) == {"f": 1}


async def test_kafka_is_told_of_the_fork_and_not_of_the_copies(
    database: Database, feed: Feed
) -> None:
    await feed.task("t")
    await forked(database, 1, country="DE")
    rows = await database.fetch(
        "SELECT o.seq, s.kind, s.change FROM outbox o JOIN tasks t ON t.id = o.task"
        " JOIN steps s ON s.task = o.task AND s.seq = o.seq WHERE t.task_id = 'f'"
    )
    assert [(r["seq"], r["kind"]) for r in rows] == [(2, "forked")]
    assert rows[0]["change"] == await context_of(database, "f")


async def test_what_can_not_be_forked_is_refused(database: Database, feed: Feed) -> None:
    await feed.task("t")
    with pytest.raises(NotAllowed, match="has no step 2: its steps are 1 to 1"):
        await forked(database, 2)
    with pytest.raises(NotFound, match="'nobody'"):
        await fork(database, Forked(task="nobody", step=Seq(1)), new=NEW)
    with pytest.raises(NotAllowed, match="there is a task 't' already"):
        await fork(database, Forked(task="t", step=Seq(1)), new=TaskId("t"))


async def test_a_fork_counts_the_bytes_of_its_journal(database: Database, feed: Feed) -> None:
    await feed.task("t", description="x" * 10_000)
    await fork(database, Forked(task=TaskId("t"), step=Seq(1), by="me"), new=TaskId("f"))
    old, new = await task_row(database, "t"), await task_row(database, "f")
    assert new["bytes"] >= old["bytes"] > 10_000
