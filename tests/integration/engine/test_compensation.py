"""What a task did is undone when it fails or is cancelled, also over the death of its worker."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from orchestrator.agents.agent import CallRequest
from orchestrator.domain.agent import Agent
from orchestrator.domain.call import CallResult
from orchestrator.domain.compensation import Compensation
from orchestrator.domain.decision import Fail
from orchestrator.domain.errors import NotAllowed
from orchestrator.domain.ids import AgentId, TaskId
from orchestrator.domain.retry import RetryPolicy
from orchestrator.domain.step import Cancelled, Failed
from orchestrator.store import operations
from orchestrator.store.database import Database, Row
from orchestrator.store.journal import JOURNAL
from orchestrator.store.open_calls import open_calls
from tests.fakes.bus import until
from tests.fakes.scripted_caller import Gate, ScriptedCaller, agent, failure, says, success
from tests.fakes.scripted_planner import ScriptedPlanner, complete, delegate
from tests.fakes.workers import Feed, bodies, kinds, reaches, running_worker, start_worker, task_row

UNDO = Compensation(agent=AgentId("undo"), input={"id": "$output.customer_id"})
AGENTS = (
    agent("crm", "customer_id", compensation=UNDO),
    agent("billing", "invoice_id", compensation=UNDO),
    agent("undo"),
)
ONCE = (*AGENTS[:2], agent("undo", effects="at_most_once", status_url="http://undo.invalid/s"))
FAILS = (delegate("crm", "billing"), Fail(reason="no"))


class Holds:
    """An undoing agent that holds the n-th call that reaches it, and answers all others."""

    def __init__(self, held: int) -> None:
        self.requests: list[CallRequest] = []
        self.gate = Gate()
        self._held = held

    async def __call__(self, request: CallRequest, time: int) -> CallResult:
        self.requests.append(request)
        return await self.gate(request, time) if len(self.requests) == self._held else success()

    @property
    def keys(self) -> list[str | None]:
        return [r.compensates for r in self.requests]


async def ended(database: Database, task_id: str = "t") -> list[tuple[str, bool, str]]:
    """Of the last step: each agent whose effect was to be undone, whether it was, why not."""
    end = (await bodies(database, task_id))[-1]
    assert isinstance(end, Failed | Cancelled)
    return [(c.agent, c.is_undone, c.note) for c in end.compensated]


async def test_a_failed_task_undoes_what_it_did_the_last_effect_first(
    database: Database, feed: Feed
) -> None:
    undo = Holds(0)
    caller = ScriptedCaller(crm=says(success(customer_id=7)), undo=undo)
    planner = ScriptedPlanner(delegate("crm"), delegate("billing"), Fail(reason="no"))
    async with running_worker(database, planner=planner, caller=caller, agents=AGENTS) as worker:
        await feed.task("t", to=worker)
        row = await reaches(database, "t", "failed")
    assert undo.keys == ["t/4/1", "t/2/1"]
    assert [r.input for r in undo.requests] == [{}, {"id": 7}]
    assert await ended(database) == [("billing", True, ""), ("crm", True, "")]
    assert (row["reason"], row["context"]["current_state"]) == ("no", "failed: no")


async def test_a_completed_task_undoes_nothing(database: Database, feed: Feed) -> None:
    caller = ScriptedCaller()
    planner = ScriptedPlanner(delegate("crm"), complete())
    async with running_worker(database, planner=planner, caller=caller, agents=AGENTS) as worker:
        await feed.task("t", to=worker)
        await reaches(database, "t", "completed")
    assert "compensating" not in await kinds(database, "t")


async def test_a_task_cancelled_between_two_calls_undoes_both(
    database: Database, feed: Feed
) -> None:
    gate, undo = Gate(), Holds(0)
    caller = ScriptedCaller(billing=gate, undo=undo)
    planner = ScriptedPlanner(delegate("crm", "billing"))
    async with running_worker(database, planner=planner, caller=caller, agents=AGENTS) as worker:
        await feed.task("t", to=worker)
        await gate.entered.wait()
        await until(lambda: caller.effects["t/2/1"] == 1)
        await feed.event("t", "cancel", payload={"reason": "r"}, to=worker)
        await reaches(database, "t", "cancelled")
    assert undo.keys == ["t/2/2", "t/2/1"]
    assert await ended(database) == [("billing", True, ""), ("crm", True, "")]


@pytest.mark.parametrize("held", [1, 2])
@pytest.mark.parametrize("agents", [AGENTS, ONCE], ids=["idempotent", "at_most_once"])
async def test_a_worker_that_dies_while_it_undoes_is_followed_by_one_that_goes_on(
    database: Database, feed: Feed, held: int, agents: Sequence[Agent]
) -> None:
    undo = Holds(held)
    caller, planner = ScriptedCaller(undo=undo), ScriptedPlanner(*FAILS)
    first = await start_worker(database, planner=planner, caller=caller, agents=agents)
    await feed.task("t", to=first.worker)
    await undo.gate.entered.wait()
    await first.kill()
    seq = next(n for n, k in enumerate(await kinds(database, "t"), 1) if k == "compensating")
    caller.statuses[f"t/{seq}/{held}"] = success()
    async with running_worker(database, planner=planner, caller=caller, agents=agents):
        await reaches(database, "t", "failed")
    again = 1 if agents is ONCE else 2
    assert caller.sends[f"t/{seq}/{held}"] == again
    assert caller.sends[f"t/{seq}/{3 - held}"] == 1
    assert [is_undone for _, is_undone, _ in await ended(database)] == [True, True]
    assert planner.repeated == {}


async def test_a_worker_that_dies_before_the_next_try_is_followed_by_one_that_tries(
    database: Database, feed: Feed
) -> None:
    caller = ScriptedCaller(undo=says(failure(), success()))
    planner = ScriptedPlanner(delegate("crm"), Fail(reason="no"))
    slow = RetryPolicy(max_attempts=3, base_seconds=1.0, cap_seconds=1.0)
    first = await start_worker(
        database, planner=planner, caller=caller, agents=AGENTS, agent_retry=slow
    )
    await feed.task("t", to=first.worker)

    async def is_tried_later() -> bool:
        return "attempt_failed" in await kinds(database, "t")

    await until(is_tried_later)
    await first.kill()
    async with running_worker(database, planner=planner, caller=caller, agents=AGENTS):
        await reaches(database, "t", "failed")
    assert await ended(database) == [("crm", True, "")]


@pytest.mark.parametrize("bad", ["\ud800", "\0"], ids=["lone surrogate", "zero"])
async def test_an_answer_that_can_not_be_stored_leaves_the_other_effects_to_be_undone(
    database: Database, feed: Feed, bad: str
) -> None:
    async def undoes(request: CallRequest, _: int) -> CallResult:
        return success(note=bad if request.compensates == "t/2/2" else "fine")

    caller, planner = ScriptedCaller(undo=undoes), ScriptedPlanner(*FAILS)
    async with running_worker(database, planner=planner, caller=caller, agents=AGENTS) as worker:
        await feed.task("t", to=worker)
        row = await reaches(database, "t", "failed")
    (first, is_undone, note), second = await ended(database)
    assert (first, is_undone, second) == ("billing", False, ("crm", True, ""))
    assert note.startswith("its answer can't be stored: ")
    assert (row["reason"], row["context"]["current_state"]) == ("no", "failed: no")


async def test_an_effect_that_can_not_be_undone_is_named_at_the_end(
    database: Database, feed: Feed
) -> None:
    caller = ScriptedCaller(undo=says(failure("locked", retryable=False), success()))
    planner = ScriptedPlanner(*FAILS)
    gone = (AGENTS[0], agent("billing", compensation=Compensation(agent=AgentId("gone"))))
    agents = (*gone, AGENTS[2])
    async with running_worker(database, planner=planner, caller=caller, agents=agents) as worker:
        await feed.task("t", to=worker)
        await reaches(database, "t", "failed")
    assert sorted(await ended(database)) == [
        ("billing", False, "there is no agent 'gone' any more"),
        ("crm", False, "locked"),
    ]


async def test_whether_it_was_undone_is_asked_of_a_person_where_nobody_else_knows(
    database: Database, feed: Feed
) -> None:
    planner = ScriptedPlanner(delegate("crm"), Fail(reason="no"))
    lost = failure("lost", was_sent=True)
    caller = ScriptedCaller(undo=says(lost))
    async with running_worker(database, planner=planner, caller=caller, agents=ONCE) as worker:
        await feed.task("t", to=worker)
        row = await reaches(database, "t", "waiting")
        assert row["reason"].startswith("compensating: a person: whether call")
        assert row["context"]["current_state"] == "compensating"
        (call,) = await open_calls(database, TaskId("t"))
        await feed.event("t", "cancel", to=worker)
        await feed.event("t", "agent_result", step=call.step, call=call.call, to=worker)
        await reaches(database, "t", "failed")
    assert (call.agent, list(caller.sends.values())) == ("undo", [1, 1])
    assert await ended(database) == [("crm", True, "")]


async def test_a_deadline_does_not_stop_what_undoes(database: Database, feed: Feed) -> None:
    gate, undo = Gate(), Holds(1)
    caller = ScriptedCaller(crm=gate, undo=undo)
    planner = ScriptedPlanner(delegate("crm"))
    async with running_worker(database, planner=planner, caller=caller, agents=AGENTS) as worker:
        now = (await database.fetch("SELECT now() AS now"))[0]["now"]
        await feed.task("t", to=worker, deadline=(now + timedelta(seconds=2.5)).isoformat())
        await undo.gate.entered.wait()
        assert undo.requests[0].timeout_seconds == 30
        undo.gate.opened.set()
        row = await reaches(database, "t", "failed")
    assert row["reason"].startswith("not done by its deadline")


async def test_a_task_whose_effects_are_undone_is_not_sent_back_to_work(
    database: Database, feed: Feed
) -> None:
    planner, caller = ScriptedPlanner(*FAILS), ScriptedCaller()
    async with running_worker(database, planner=planner, caller=caller, agents=AGENTS) as worker:
        await feed.task("t", to=worker)
        await reaches(database, "t", "failed")
        with pytest.raises(NotAllowed, match="its effects were undone"):
            await operations.retry(database, TaskId("t"))
    assert (await task_row(database, "t"))["status"] == "failed"


async def test_a_result_that_can_not_be_stored_is_undone(database: Database, feed: Feed) -> None:
    caller = ScriptedCaller(crm=says(success(customer_id="\ud800")))
    planner = ScriptedPlanner(delegate("crm"), complete())
    async with running_worker(database, planner=planner, caller=caller, agents=AGENTS) as worker:
        await feed.task("t", to=worker)
        await reaches(database, "t", "failed")
    assert await ended(database) == [("crm", True, "")]


class Dies(Database):
    """The database of a worker that dies at its n-th journal write, before or after the commit."""

    def __init__(self, database: Database, *, write: int, is_written: bool) -> None:
        super().__init__(database._options)
        self.died = asyncio.Event()
        self._left, self._is_written = write, is_written

    async def fetch(self, sql: str, *args: Any) -> Sequence[Row]:
        if sql != JOURNAL:
            return await super().fetch(sql, *args)
        self._left -= 1
        if self._left <= 0:
            if self._is_written and self._left == 0:
                await super().fetch(sql, *args)
            self.died.set()
            await asyncio.Event().wait()
        return await super().fetch(sql, *args)


@pytest.mark.parametrize("is_written", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("write", range(1, 6))
async def test_whatever_was_written_last_each_effect_is_undone_once(
    database: Database, feed: Feed, write: int, is_written: bool
) -> None:
    caller, planner = ScriptedCaller(), ScriptedPlanner(*FAILS)
    dying = Dies(database, write=write, is_written=is_written)
    await dying.open()
    first = await start_worker(dying, planner=planner, caller=caller, agents=AGENTS)
    await feed.task("t", to=first.worker)
    async with asyncio.timeout(10):
        await dying.died.wait()
    await first.kill()
    await dying.close()
    async with running_worker(database, planner=planner, caller=caller, agents=AGENTS):
        await reaches(database, "t", "failed")
    assert sorted(await ended(database)) == [("billing", True, ""), ("crm", True, "")]
    assert (await kinds(database, "t")).count("compensating") == 1
    # Two calls and two compensations, each under one key however often it was sent.
    assert set(caller.effects.values()) == {1}
    assert len(caller.effects) == 4


@pytest.mark.parametrize("is_once", [False, True], ids=["idempotent", "at_most_once"])
async def test_a_call_under_way_at_a_crash_is_undone_though_its_agent_is_gone(
    database: Database, feed: Feed, is_once: bool
) -> None:
    gate, planner = Gate(), ScriptedPlanner(delegate("crm"), Fail(reason="no"))
    caller = ScriptedCaller(crm=gate)
    effects: dict[str, Any] = {"effects": "at_most_once"} if is_once else {}
    agents = (agent("crm", compensation=UNDO, **effects), agent("undo"))
    first = await start_worker(database, planner=planner, caller=caller, agents=agents)
    await feed.task("t", to=first.worker)
    await gate.entered.wait()  # the request is out: nobody knows what it did
    await first.kill()
    async with running_worker(
        database, planner=planner, caller=caller, agents=agents[1:]
    ) as worker:
        if is_once:  # a person is waited for, and gives it up
            row = await reaches(database, "t", "waiting")
            assert "there is no agent 'crm' any more" in row["reason"]
            await feed.event("t", "cancel", to=worker)
        await reaches(database, "t", "cancelled" if is_once else "failed")
    assert "compensating" in await kinds(database, "t")


async def test_a_call_that_timed_out_is_undone_though_the_next_try_could_not_be_sent(
    database: Database, feed: Feed
) -> None:
    refused = failure("the input is against its schema", retryable=False, was_sent=False)
    caller = ScriptedCaller(crm=says(failure("did not answer within 30 s"), refused))
    planner = ScriptedPlanner(delegate("crm"), Fail(reason="no"))
    agents = (agent("crm", compensation=UNDO), agent("undo"))
    async with running_worker(database, planner=planner, caller=caller, agents=agents) as worker:
        await feed.task("t", to=worker)
        await reaches(database, "t", "failed")
    assert "compensating" in await kinds(database, "t")
