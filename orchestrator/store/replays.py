"""How often dead letters were sent again, whatever came of it.

A message is counted before it is sent: who breaks off in between has counted one too many, never
too few. A stored task is sent back to work by a step, and its steps are the count; those that a
fork copied (epoch 0) are the other task's.
"""

from collections.abc import Mapping, Sequence

from orchestrator.domain.ids import TaskId
from orchestrator.store.database import Database

MAX_KNOWN = 999_999
"""What a letter's header says is not ours alone: no more than this is believed."""

# In one statement, so that of two commands at once not both are the last that may.
COUNT = """
INSERT INTO dead_letter_replays AS r (origin, replays)
SELECT $1, $2::int + 1 WHERE $3::int IS NULL OR $2::int < $3
ON CONFLICT (origin) DO UPDATE SET replays = greatest(r.replays, $2::int) + 1, at = now()
WHERE $3::int IS NULL OR greatest(r.replays, $2::int) < $3
RETURNING replays
"""

OF_MESSAGES = "SELECT origin, replays FROM dead_letter_replays WHERE origin = ANY($1)"

OF_TASKS = """
SELECT t.task_id, count(*)::int AS replays FROM tasks t JOIN steps s ON s.task = t.id
WHERE t.task_id = ANY($1) AND s.kind = 'retried' AND s.epoch > 0 GROUP BY t.task_id
"""


async def count_replay(
    database: Database, origin: str, *, known: int, most: int | None
) -> int | None:
    """The replays, this one included; None where there were `most` already.

    `known` is what the letter itself says: replays of a release that did not count here.
    """
    row = await database.fetch_one(COUNT, origin, min(known, MAX_KNOWN), most)
    return None if row is None else int(row["replays"])


async def replays_of_messages(database: Database, origins: Sequence[str]) -> Mapping[str, int]:
    """By origin; what was never sent again is not in it."""
    rows = await database.fetch(OF_MESSAGES, origins)
    return {row["origin"]: row["replays"] for row in rows}


async def replays_of_tasks(database: Database, task_ids: Sequence[TaskId]) -> Mapping[TaskId, int]:
    """How often each was sent back to work, by whatever command."""
    rows = await database.fetch(OF_TASKS, task_ids)
    return {TaskId(row["task_id"]): row["replays"] for row in rows}
