"""A required field that says who provides it is collected from there, and from nobody else."""

from orchestrator.domain.context import Context, Provider
from orchestrator.domain.decision import Delegate, Turn, Wait
from orchestrator.domain.event import GIVEN
from orchestrator.domain.ids import Seq, TaskId
from orchestrator.domain.json import JsonObject
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.step import Completed, Forked
from orchestrator.store.control import Message, Selection, tell
from orchestrator.store.database import Database
from orchestrator.store.fork import fork
from tests.fakes.bus import until
from tests.fakes.scripted_caller import ScriptedCaller, agent, says, success
from tests.fakes.scripted_planner import ScriptedPlanner, delegate
from tests.fakes.workers import Feed, bodies, kinds, reaches, running_worker, task_row

CRM = (agent("crm", "approval"),)
WAITS = Wait(waiting_for="the approval")
TASKS = Selection(task_ids=(TaskId("t"),))
GIVES = Message(event_type=GIVEN, payload={"data": {"approval": "yes"}, "by": "kim"})


async def claims(_: Snapshot) -> Turn:
    """A planner that completes the task by its own word, or tries to."""
    return Turn(decision=Delegate(), collected={"approval": "yes"})


async def asks_an_agent(_: Snapshot) -> Turn:
    return Turn(decision=delegate("crm"))


async def rests(_: Snapshot) -> Turn:
    return Turn(decision=WAITS)


def wanting(who: Provider) -> JsonObject:
    return Context(required_fields=("approval",), providers={"approval": who}).to_json()


async def test_a_field_from_a_person_waits_for_one_whatever_planner_agent_and_event_say(
    database: Database, feed: Feed
) -> None:
    planner = ScriptedPlanner(claims, asks_an_agent, rests, rests)
    caller = ScriptedCaller(crm=says(success(approval="yes")))
    async with running_worker(database, planner=planner, caller=caller, agents=CRM) as worker:
        await feed.task("t", to=worker, context=wanting("person"))
        await reaches(database, "t", "waiting")
        await feed.event("t", GIVEN, payload=GIVES.payload, to=worker)
        await until(lambda: _rested_twice(database))
        assert (await task_row(database, "t"))["context"]["collected_data"] == {}
        await tell(database, GIVES, TASKS)
        row = await reaches(database, "t", "completed")
    assert row["context"]["collected_data"] == {"approval": "yes"}
    assert (await bodies(database, "t"))[-1] == Completed(result={"approval": "yes"}, by="rule")


async def _rested_twice(database: Database) -> bool:
    return (await kinds(database, "t")).count("waiting") == 2


async def test_a_field_from_an_event_is_collected_from_one(database: Database, feed: Feed) -> None:
    planner = ScriptedPlanner(claims, asks_an_agent, rests)
    caller = ScriptedCaller(crm=says(success(approval="yes")))
    async with running_worker(database, planner=planner, caller=caller, agents=CRM) as worker:
        await feed.task("t", to=worker, context=wanting("event"))
        await reaches(database, "t", "waiting")
        await feed.event("t", payload={"approval": "granted"}, to=worker)
        row = await reaches(database, "t", "completed")
    assert row["context"]["collected_data"] == {"approval": "granted"}


async def test_a_fork_keeps_who_provides_a_field(database: Database, feed: Feed) -> None:
    planner = ScriptedPlanner(rests, claims, rests)
    async with running_worker(database, planner=planner, caller=ScriptedCaller()) as worker:
        await feed.task("t", to=worker, context=wanting("event"))
        await reaches(database, "t", "waiting")
        await fork(database, Forked(task=TaskId("t"), step=Seq(1), by="kim"), new=TaskId("f"))
        row = await reaches(database, "f", "waiting")
    assert row["context"]["providers"] == {"approval": "event"}
    assert row["context"]["collected_data"] == {}
