"""Agents that ask back: each answer reaches its own question, and nothing before it runs again."""

from orchestrator.domain.call import CallResult, CallStatus
from orchestrator.domain.decision import Wait
from orchestrator.domain.step import EventApplied
from orchestrator.store.database import Database
from tests.fakes.bus import until
from tests.fakes.scripted_caller import ScriptedCaller, says
from tests.fakes.scripted_planner import ScriptedPlanner, complete, delegate
from tests.fakes.workers import Feed, bodies, reaches, running_worker

ROUNDS = 5
ASKS = CallResult(status=CallStatus.INPUT_REQUIRED, error="which one?")
WAITS = Wait(waiting_for="two answers")


async def test_loop_of_five_clarifications_two_open_at_once(database: Database, feed: Feed) -> None:
    """Each round: both agents ask, the second question is answered first, then the first."""
    round_of = (delegate("crm", "billing"), WAITS, WAITS)
    planner = ScriptedPlanner(*round_of * ROUNDS, complete())
    caller = ScriptedCaller(crm=says(ASKS), billing=says(ASKS))
    async with running_worker(database, planner=planner, caller=caller) as worker:
        await feed.task("t", to=worker)
        for number in range(1, ROUNDS + 1):
            step = await _waits(database, turns=3 * number - 1)
            await feed.event("t", "answer", step=step, call=2, payload={"b": number}, to=worker)
            await _waits(database, turns=3 * number)
            await feed.event("t", "answer", step=step, call=1, payload={"a": number}, to=worker)
        row = await reaches(database, "t", "completed")
    assert row["context"]["event_data"] == {"a": ROUNDS, "b": ROUNDS}
    assert set(caller.sends.values()) == {1}
    assert (len(caller.sends), planner.repeated) == (2 * ROUNDS, {})
    answers = [b for b in await bodies(database, "t") if isinstance(b, EventApplied)]
    decisions = sorted({int(key.split("/")[1]) for key in caller.sends})
    assert [(b.step, b.call, b.payload) for b in answers] == [
        pair
        for number, step in enumerate(decisions, 1)
        for pair in ((step, 2, {"b": number}), (step, 1, {"a": number}))
    ]


async def _waits(database: Database, *, turns: int) -> int:
    """The last decision that called somebody, once the task waits after so many turns."""
    found: list[int] = []

    async def is_so() -> bool:
        rows = await database.fetch(
            "SELECT s.seq, s.body->'decision'->>'type' AS type, t.status FROM tasks t"
            " JOIN steps s ON s.task = t.id AND s.kind = 'decision' ORDER BY s.seq"
        )
        found[:] = [r["seq"] for r in rows if r["type"] == "delegate"]
        return len(rows) == turns and rows[0]["status"] == "waiting"

    await until(is_so, seconds=10, what=f"{turns} turns")
    return found[-1]
