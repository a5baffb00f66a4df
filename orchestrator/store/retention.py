"""How long things are kept. The journal lies in partitions by month, and goes by the month.

`tasks.id` begins with the month in which the task came (202611…): its sequence is set ahead when a
month begins, once the month's partition is there. So nothing is ever refused: while nobody begins
the new month, new tasks are of the old one.

A task goes with its messages and its steps when it is over for long enough and nothing of it is on
its way to Kafka. Where that is so for all tasks of a month that is over, its steps go as one table.
Everything here may end in the middle and be done again.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta

from orchestrator.store.database import Database, Row

BEGIN_MONTH = "SELECT begin_steps_month() AS begun"

DROP = "SELECT drop_steps_partition($1) AS dropped"

# The months that begin before what is old enough; or, calmly, those that end before it. A month is
# over when there is a later one: no task gets an id in it any more.
MONTHS = """
SELECT name, first_task, end_task, is_over FROM (
    SELECT *, lead(first_task) OVER (ORDER BY first_task) IS NOT NULL AS is_over
    FROM steps_partitions
) m, LATERAL (
    SELECT to_char((now() - $1::interval) AT TIME ZONE 'UTC', 'YYYYMM')::bigint * 1000000000000
        AS old
) o
WHERE CASE WHEN $2 THEN end_task <= old ELSE first_task <= old END
ORDER BY first_task
"""

_OLD = """
t.finished_at < now() - $3::interval AND t.status IN ('completed', 'failed', 'cancelled')
AND t.id NOT IN (SELECT task FROM outbox WHERE task IS NOT NULL
                 UNION ALL SELECT task FROM outbox_refused WHERE task IS NOT NULL)
"""

COUNT = f"""
SELECT max(t.id) AS last, count(*) AS tasks, count(*) FILTER (WHERE {_OLD}) AS old
FROM (SELECT * FROM tasks WHERE id >= $1 AND id < $2 ORDER BY id LIMIT $4) t
"""  # noqa: S608 - of constants

DELETE = f"""
WITH page AS MATERIALIZED (
    SELECT id FROM tasks WHERE id >= $1 AND id < $2 ORDER BY id LIMIT $4
), old AS MATERIALIZED (
    -- Skipped, not waited for: who holds the row may be sending the task back to work.
    SELECT t.id FROM tasks t JOIN page USING (id) WHERE {_OLD}
    ORDER BY t.id FOR UPDATE OF t SKIP LOCKED
), step AS (
    DELETE FROM steps s USING old
    WHERE s.task = old.id AND s.task >= $1 AND s.task < $2 AND $5
), message AS (
    DELETE FROM inbox i USING old WHERE i.task = old.id
), gone AS (
    DELETE FROM tasks t USING old WHERE t.id = old.id RETURNING t.id
)
SELECT (SELECT max(id) FROM page) AS last, (SELECT count(*) FROM gone) AS tasks
"""  # noqa: S608 - of constants

COUNT_PAGE = 20_000
DELETE_PAGE = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Month:
    """A partition of the journal, and the tasks whose steps lie in it."""

    name: str
    first_task: int
    end_task: int
    is_over: bool
    """No task will be added to it."""
    tasks: int
    old: int
    """Those of them that may go."""

    @property
    def goes_whole(self) -> bool:
        return self.is_over and self.old == self.tasks


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What went."""

    tasks: int = 0
    months: tuple[str, ...] = ()
    """Partitions that were dropped."""


async def begin_month(database: Database) -> bool:
    """Makes the partition of the month that has begun; false where it was there already."""
    row = await database.fetch_one(BEGIN_MONTH)
    assert row is not None
    return bool(row["begun"])


async def drop_partition(database: Database, name: str) -> bool:
    """Drops a partition of the journal; false where a task is left that has its steps in it."""
    row = await database.fetch_one(DROP, name)
    assert row is not None
    return bool(row["dropped"])


async def months(
    database: Database, *, older_than: timedelta, by_month: bool = False
) -> list[Month]:
    """The months with tasks that are over for so long; `by_month`: only those that ended by then.

    The latter leaves a task for up to a month longer, so that most months go as one table.
    """
    return [
        await _counted(database, row, older_than)
        for row in await database.fetch(MONTHS, older_than, by_month)
    ]


async def _counted(database: Database, month: Row, older_than: timedelta) -> Month:
    tasks, old, first = 0, 0, month["first_task"]
    while True:
        row = await database.fetch_one(COUNT, first, month["end_task"], older_than, COUNT_PAGE)
        assert row is not None
        if row["last"] is None:
            return Month(**month, tasks=tasks, old=old)
        tasks, old, first = tasks + row["tasks"], old + row["old"], row["last"] + 1


async def prune(
    database: Database,
    found: list[Month],
    *,
    older_than: timedelta,
    pause_seconds: float = 0.0,
    progress: Callable[[int], None] = lambda _: None,
) -> Pruned:
    """Deletes what is old in these months, a page after the other."""
    tasks, dropped = 0, []
    for month in found:
        async for gone in _delete(database, month, older_than):
            tasks += gone
            progress(tasks)
            await asyncio.sleep(pause_seconds)
        if month.goes_whole and await drop_partition(database, month.name):
            dropped.append(month.name)
    return Pruned(tasks=tasks, months=tuple(dropped))


async def _delete(database: Database, month: Month, older_than: timedelta) -> AsyncIterator[int]:
    first: int | None = month.first_task
    while first is not None:
        row = await database.fetch_one(
            DELETE, first, month.end_task, older_than, DELETE_PAGE, not month.goes_whole
        )
        assert row is not None
        yield row["tasks"]
        first = None if row["last"] is None else row["last"] + 1
