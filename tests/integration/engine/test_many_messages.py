"""Thousands of unread messages of one task: applied in order, and others have their turn."""

from orchestrator.domain.step import EventApplied
from orchestrator.store.database import Database
from tests.fakes.lateness import lateness
from tests.fakes.scripted_caller import ScriptedCaller
from tests.fakes.scripted_planner import ScriptedPlanner, complete
from tests.fakes.workers import Feed, bodies, kinds, reaches, running_worker

EVENTS = 5000


async def send(feed: Feed, task_id: str, *, results: int, cancel_after: int | None = None) -> None:
    """Results of calls that nobody made, as they come before their task."""
    events = [
        feed.new_event(task_id, "agent_result", step=2, call=1, payload={"output": {f"f{n}": n}})
        for n in range(results)
    ]
    if cancel_after is not None:
        events.insert(cancel_after, feed.new_event(task_id, "cancel"))
    for first in range(0, len(events), 500):
        await feed.send(events[first : first + 500])


async def test_thousands_of_unread_messages_keep_no_worker_from_its_heartbeat(
    database: Database, feed: Feed
) -> None:
    await send(feed, "t", results=EVENTS)
    await feed.task("t")
    planner = ScriptedPlanner(complete())
    async with (
        lateness() as late,
        running_worker(database, planner=planner, caller=ScriptedCaller()),
    ):
        await reaches(database, "t", "failed", seconds=60)  # of so many steps
    applied = [b for b in await bodies(database, "t") if isinstance(b, EventApplied)]
    assert [b.payload["output"] for b in applied] == [{f"f{n}": n} for n in range(EVENTS)]
    assert max(late) < 1.5


async def test_nothing_is_applied_after_a_cancel_however_many_there_are(
    database: Database, feed: Feed
) -> None:
    await send(feed, "t", results=900, cancel_after=450)
    await feed.task("t")
    planner = ScriptedPlanner(complete())
    async with running_worker(database, planner=planner, caller=ScriptedCaller()):
        await reaches(database, "t", "cancelled", seconds=30)
    assert (await kinds(database, "t")).count("event") == 451
