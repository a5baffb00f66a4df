"""A task that can't go on fails or is set aside alone; its worker and the other tasks go on."""

from datetime import timedelta
from typing import Any

import pytest

from orchestrator.agents.agent import CallRequest
from orchestrator.domain.call import CallResult
from orchestrator.domain.compensation import Compensation
from orchestrator.domain.decision import Turn, Usage, Wait
from orchestrator.domain.errors import StoreUnavailable
from orchestrator.domain.ids import AgentId
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.step import Failed
from orchestrator.engine.maintenance import Maintenance
from orchestrator.store import outbox
from orchestrator.store.database import Database
from orchestrator.store.outbox import Letter
from orchestrator.store.postgres import PostgresStore
from tests.fakes.bus import until
from tests.fakes.scripted_caller import Gate, ScriptedCaller, agent, says, success
from tests.fakes.scripted_planner import ScriptedPlanner, complete, delegate
from tests.fakes.workers import (
    Feed,
    all_reach,
    bodies,
    context_of,
    engine_options,
    kinds,
    reaches,
    running_worker,
    start_worker,
    task_row,
)


async def letters(database: Database) -> list[Letter]:
    return [r for r in await outbox.next_rows(database, 1000) if isinstance(r, Letter)]


async def test_drain_gives_tasks_back_and_nothing_is_lost(database: Database, feed: Feed) -> None:
    gate, planner = Gate(), ScriptedPlanner(delegate("crm", "billing"), complete())
    caller = ScriptedCaller(crm=gate)
    first = await start_worker(database, planner=planner, caller=caller, lease=timedelta(60))
    await feed.send([feed.new_task(f"t-{n}") for n in range(5)], to=first.worker)
    await until(lambda: caller.under_way == 5, seconds=5)
    await first.stop(grace_seconds=0.2)
    for n in range(5):
        row = await task_row(database, f"t-{n}")
        assert (row["status"], row["owner"]) == ("ready", None)
    gate.opened.set()
    async with running_worker(database, planner=planner, caller=caller, worker_name="other"):
        await all_reach(database, "completed", tasks=5)
    assert planner.repeated == {}
    assert {key: n for key, n in caller.sends.items() if n > 1} == {
        f"t-{n}/2/1": 2 for n in range(5)
    }


async def test_drain_lets_calls_end_within_the_grace(database: Database, feed: Feed) -> None:
    gate, planner = Gate(), ScriptedPlanner(delegate("crm"), complete())
    first = await start_worker(database, planner=planner, caller=ScriptedCaller(crm=gate))
    await feed.task("t", to=first.worker)
    await gate.entered.wait()
    gate.opened.set()
    await first.stop(grace_seconds=5)
    assert (await task_row(database, "t"))["status"] == "completed"


async def break_down(_: object, *__: object) -> Any:
    raise ValueError("a bug")


@pytest.mark.parametrize("where", ["planner", "agent"])
async def test_task_that_breaks_its_runner_is_set_aside_in_the_end(
    database: Database, feed: Feed, where: str
) -> None:
    planner = ScriptedPlanner(break_down if where == "planner" else delegate("crm"))
    caller = ScriptedCaller(crm=break_down)
    async with running_worker(database, planner=planner, caller=caller, max_claims=2) as worker:
        await feed.task("t", to=worker)
        await reaches(database, "t", "quarantined", seconds=30)
        planner.script = (complete(),)
        await feed.task("next", to=worker)
        await reaches(database, "next", "completed")
    letter = (await letters(database))[0]
    assert (letter.topic, letter.key, letter.value) == ("dead-letters", b"k", b"{}")
    assert dict(letter.headers)["dlq.reason"] == "crash_loop"
    assert dict(letter.headers)["dlq.original.topic"] == "tasks"
    assert isinstance((await bodies(database, "t"))[-1], Failed)


async def test_task_with_an_unreadable_journal_is_set_aside(database: Database, feed: Feed) -> None:
    await feed.task("t")
    await database.fetch("UPDATE steps SET kind = 'of a later release'")
    planner = ScriptedPlanner(complete())
    async with running_worker(
        database, planner=planner, caller=ScriptedCaller(), max_claims=1
    ) as worker:
        await reaches(database, "t", "quarantined")
        await feed.task("next", to=worker)
        await reaches(database, "next", "completed")
    assert planner.asks == {("next", 0): 1}


UNSTORABLE = {"lone surrogate": "\ud800", "zero": "a\0b", "huge": 10**30}


@pytest.mark.parametrize("name", UNSTORABLE)
async def test_result_that_cannot_be_stored_fails_its_own_task_alone(
    database: Database, feed: Feed, name: str
) -> None:
    async def answer(request: CallRequest, _: int) -> CallResult:
        return success(customer_id=UNSTORABLE[name] if request.task_id == "t-7" else "fine")

    planner = ScriptedPlanner(delegate("crm"), complete())
    async with running_worker(
        database, planner=planner, caller=ScriptedCaller(crm=answer)
    ) as worker:
        await feed.send([feed.new_task(f"t-{n}") for n in range(20)], to=worker)
        await all_reach(database, "completed", tasks=19)
        await reaches(database, "t-7", "failed")
    assert await kinds(database, "t-7") == ["accepted", "decision", "failed"]


@pytest.mark.parametrize("text", ["\ud800", "\0"], ids=["lone surrogate", "zero"])
async def test_decision_that_cannot_be_stored_fails_its_own_task_alone(
    database: Database, feed: Feed, text: str
) -> None:
    planner = ScriptedPlanner(Wait(waiting_for=text), by_task={"next": (complete(),)})
    async with running_worker(database, planner=planner, caller=ScriptedCaller()) as worker:
        await feed.task("t", to=worker)
        await reaches(database, "t", "failed")
        await feed.task("next", to=worker)
        await reaches(database, "next", "completed")


async def test_a_number_of_tokens_that_cannot_be_stored_fails_its_task_and_undoes_it(
    database: Database, feed: Feed
) -> None:
    async def boasts(_: Snapshot) -> Turn:
        return Turn(decision=complete(), usage=Usage(input_tokens=2**63))

    planner = ScriptedPlanner(delegate("crm"), boasts)
    agents = (agent("crm", compensation=Compensation(agent=AgentId("undo"))), agent("undo"))
    caller = ScriptedCaller()
    async with running_worker(database, planner=planner, caller=caller, agents=agents) as worker:
        await feed.task("t", to=worker)
        await reaches(database, "t", "failed")
    assert await kinds(database, "t") == [
        *("accepted", "decision", "result", "compensating", "result", "failed")
    ]


async def test_large_context_is_whole_after_a_crash(database: Database, feed: Feed) -> None:
    gate, planner = Gate(), ScriptedPlanner(delegate("crm"), delegate("billing"), complete())
    caller = ScriptedCaller(crm=says(success(customer_id="x" * 9000)), billing=gate)
    first = await start_worker(database, planner=planner, caller=caller)
    await feed.task("t", to=first.worker)
    await gate.entered.wait()
    await first.kill()
    assert (await task_row(database, "t"))["context"]["collected_data"] == {}
    gate.opened.set()
    async with running_worker(database, planner=planner, caller=caller):
        row = await reaches(database, "t", "completed")
    assert planner.snapshots["t"][-1].context.collected_data == {"customer_id": "x" * 9000}
    assert row["context"] == await context_of(database, "t")


async def test_large_context_of_a_long_task_is_written_now_and_then(
    database: Database, feed: Feed
) -> None:
    async def grow(snapshot: Snapshot) -> Turn:
        if snapshot.seq == 1:
            return Turn(decision=delegate(), collected={"a": "x" * 9000})
        return Turn(decision=delegate(), collected={"n": snapshot.seq})

    gate = Gate()
    planner = ScriptedPlanner(*[grow] * 30, delegate("crm"))
    first = await start_worker(database, planner=planner, caller=ScriptedCaller(crm=gate))
    await feed.task("t", to=first.worker)
    await gate.entered.wait()
    row = await task_row(database, "t")
    await first.kill()
    assert 1 < row["context_seq"] < row["seq"]
    assert row["context"]["collected_data"] == {"a": "x" * 9000, "n": row["context_seq"] - 1}


async def test_maintenance_finds_nothing_to_do_in_an_empty_database(database: Database) -> None:
    assert await Maintenance(PostgresStore(database), engine_options()).run_once() is False


async def test_event_whose_task_never_came_becomes_a_dead_letter(
    database: Database, feed: Feed
) -> None:
    await feed.event("t", payload={"a": 1})
    maintenance = Maintenance(PostgresStore(database), engine_options())
    assert await maintenance.run_once() is False
    await database.fetch("UPDATE tasks SET run_at = now()")
    assert await maintenance.run_once() is True
    assert await database.fetch("SELECT FROM tasks") == []
    (letter,) = await letters(database)
    assert dict(letter.headers)["dlq.reason"] == "unknown_task"
    assert (letter.key, letter.value) == (b"k", b"{}")


async def test_outages_of_postgresql_beside_the_journal_set_no_task_aside(
    database: Database, feed: Feed
) -> None:
    """As when the catalogue of agents is read again for a turn."""
    outages = iter(range(6))

    async def asked(_: Snapshot) -> Turn:
        if next(outages, None) is not None:
            raise StoreUnavailable("PostgreSQL: connection was closed")
        return Turn(decision=complete())

    planner = ScriptedPlanner(asked)
    async with running_worker(database, planner=planner, caller=ScriptedCaller()) as worker:
        await feed.task("t", to=worker)
        row = await reaches(database, "t", "completed")
    assert row["claims"] == 0
