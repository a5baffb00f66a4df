"""What must hold of a live system, asked with SQL: how many rows break each invariant, and which.

Those that look at journals ask about a page of tasks: some that run, or (deep) all, a page after
the other, so that no statement is long. The others read indexes, and count no further than
`COUNTED`: what is broken must not cost the more the worse it is.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType

from orchestrator.store.database import Database
from orchestrator.store.service import UNREAD

COUNTED = 1000
EXAMPLES = 5
PAGE = 2000
"""Tasks whose journals one statement looks at."""
SAMPLE = 200
"""Of the tasks that run, where it is not deep."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Invariant:
    """One thing that must hold."""

    name: str
    """Also the label of its metric: never change it."""
    meaning: str
    """What is wrong where it does not hold."""
    remedy: str
    sql: str
    """Selects one text, `example`, for each row that breaks it; from `page` where it is paged."""
    is_paged: bool = False
    """It looks at journals, and so at a page of tasks."""
    is_deep: bool = False
    """Not asked of the tasks that run alone: it costs too much, or is about the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """How one invariant does."""

    invariant: Invariant
    violations: int = 0
    """Counted up to `COUNTED`, of a page."""
    examples: tuple[str, ...] = ()

    def and_then(self, other: "Finding") -> "Finding":
        """With what the next page brought."""
        return Finding(
            invariant=self.invariant,
            violations=self.violations + other.violations,
            examples=(self.examples + other.examples)[:EXAMPLES],
        )


# `given` holds the lease and the number of claims after which a task is set aside.
_INVARIANTS = (
    Invariant(
        name="no_wake_up",
        meaning="tasks that are neither done nor to be looked at ever again",
        remedy="wake each with an event, and report it: every wait has an end",
        # Materialized: PostgreSQL expects many such rows, and would look for the first through all.
        sql="""
WITH asleep AS MATERIALIZED (
    SELECT task_id, status FROM tasks
    WHERE status IN ('ready', 'waiting') AND run_at = 'infinity'
)
SELECT task_id || ': ' || status AS example FROM asleep
""",
    ),
    Invariant(
        name="overdue",
        meaning="tasks that were due a minute ago, while a worker has more room than tasks",
        remedy="look at the workers' logs for what stops their claims",
        sql="""
SELECT task_id || ': due since ' || run_at AS example FROM tasks
WHERE status IN ('ready', 'waiting') AND run_at < 'infinity'
  AND run_at < now() - interval '1 minute' AND claims < (SELECT max_claims FROM given)
  -- What was taken from a dead worker just now keeps the place that it had.
  AND updated_at < now() - interval '1 minute'
  AND EXISTS (SELECT FROM workers w, given
              WHERE w.room > w.tasks AND w.heartbeat_at > now() - lease)
""",
    ),
    Invariant(
        name="no_worker",
        meaning="tasks are due, and no worker lives",
        remedy="start a worker",
        sql="""
SELECT task_id || ': due since ' || run_at AS example FROM tasks
WHERE status IN ('ready', 'waiting') AND run_at < 'infinity' AND run_at <= now()
  AND NOT EXISTS (SELECT FROM workers w, given WHERE w.heartbeat_at > now() - 3 * lease)
""",
    ),
    Invariant(
        name="stranded",
        meaning="tasks of a worker that has been silent for three leases",
        remedy="any worker takes them over: is one running?",
        sql="""
SELECT task_id || ': owner ' || coalesce(owner::text, 'nobody') AS example FROM tasks t
WHERE status = 'running' AND NOT EXISTS (
    SELECT FROM workers w, given WHERE w.id = t.owner AND w.heartbeat_at > now() - 3 * lease)
""",
    ),
    Invariant(
        name="not_run",
        meaning="living workers that own more tasks than they run",
        remedy="restart the worker: its tasks go on at once",
        # Counted are those that it took, or wrote, well before its heartbeat.
        sql="""
SELECT w.name || ': owns ' || o.tasks || ', runs ' || w.tasks AS example
FROM workers w, given, LATERAL (
    SELECT count(*) AS tasks FROM tasks t WHERE t.status = 'running' AND t.owner = w.id
       AND t.updated_at < w.heartbeat_at - 2 * lease
) o
WHERE w.heartbeat_at > now() - lease AND o.tasks > w.tasks
""",
    ),
    Invariant(
        name="crash_loop",
        meaning="tasks at the limit of claims that were not set aside",
        remedy="any worker sets them aside: is one running?",
        sql="""
SELECT task_id || ': claimed ' || claims || ' times' AS example FROM tasks, given
WHERE status IN ('ready', 'waiting') AND run_at < 'infinity'
  AND run_at < now() - interval '1 minute' AND updated_at < now() - interval '1 minute'
  AND claims >= max_claims AND claims > 0  -- as `tasks_looping` has it
""",
    ),
    Invariant(
        name="expected_late",
        meaning="events whose task never came, and that were not given up",
        remedy="any worker gives them up: is one running?",
        sql="""
SELECT task_id || ': expected until ' || run_at AS example FROM tasks
WHERE status = 'expected' AND run_at < now() - interval '1 minute'
""",
    ),
    Invariant(
        name="outbox_old",
        meaning="updates that have waited for Kafka for more than a minute",
        remedy="look whether Kafka answers, and for `relay` in the workers' logs",
        sql="""
SELECT t.task_id || ' step ' || s.seq || ': since ' || s.at AS example
FROM (SELECT * FROM outbox WHERE topic IS NULL ORDER BY id LIMIT 1000) o
JOIN LATERAL (SELECT seq, at FROM steps WHERE task = o.task AND seq = o.seq LIMIT 1) s ON true
JOIN LATERAL (SELECT task_id FROM tasks WHERE id = o.task LIMIT 1) t ON true
WHERE s.at < now() - interval '1 minute'
""",
    ),
    Invariant(
        name="position_behind",
        meaning="messages that are stored, while their partition is to be read from before them",
        remedy="none where a position was set back by hand: they are read again, once",
        sql="""
SELECT i.source || ': position ' || p.next_offset AS example
FROM (SELECT source FROM inbox WHERE source ~ '^[^/]+/[0-9]+/[0-9]+$' ORDER BY id DESC LIMIT 1000) i
JOIN (SELECT topic || '/' || partition AS place, max(next_offset) AS next_offset
      FROM kafka_positions GROUP BY topic, partition) p
  ON p.place = split_part(i.source, '/', 1) || '/' || split_part(i.source, '/', 2)
WHERE split_part(i.source, '/', 3)::bigint >= p.next_offset
""",
    ),
    Invariant(
        name="partition_unread",
        meaning="partitions of the input topics that no worker has read for a minute",
        remedy="stop the consumers of the group that are not of this service; see `doctor`",
        sql=UNREAD.format(lease="(SELECT lease FROM given)", quiet="interval '1 minute'"),
    ),
    Invariant(
        name="month_not_begun",
        meaning="the journal has no partition for this month, a day after its beginning",
        remedy="look for `housekeeping` in the workers' logs; until then the last month's grows",
        sql="""
SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM') AS example
WHERE NOT EXISTS (
    SELECT FROM steps_partitions WHERE end_task
        > to_char((now() - interval '1 day') AT TIME ZONE 'UTC', 'YYYYMM')::bigint * 1000000000000)
""",
    ),
    Invariant(
        name="gap",
        is_paged=True,
        meaning="tasks whose steps are not numbered from 1 to their last without a gap",
        remedy="report it; the task's journal is not to be trusted",
        sql="""
SELECT task_id || ': ' || n.steps || ' steps, the last is ' || seq AS example
FROM page p, LATERAL (
    SELECT count(*) AS steps, min(s.seq) AS first, max(s.seq) AS last FROM steps s
    WHERE s.task = p.id
) n
WHERE n.steps <> seq OR n.last <> seq OR n.first <> 1
""",
    ),
    Invariant(
        name="epoch_fell",
        is_paged=True,
        meaning="tasks of which an earlier owner wrote after a later one",
        remedy="report it; look at the steps from there on",
        sql="""
SELECT task_id || ' step ' || e.seq || ': epoch ' || e.epoch || ' after ' || e.before AS example
FROM page p, LATERAL (
    SELECT s.seq, s.epoch, lag(s.epoch) OVER (ORDER BY s.seq) AS before FROM steps s
    WHERE s.task = p.id
) e
WHERE e.epoch < e.before OR e.epoch > p.epoch
""",
    ),
    Invariant(
        name="half_ended",
        is_paged=True,
        is_deep=True,
        meaning="tasks that are over and not let go, or not over and marked as such",
        remedy="report it",
        sql="""
SELECT task_id || ': ' || status AS example FROM page
WHERE (status IN ('completed', 'failed', 'cancelled')) <> (finished_at IS NOT NULL)
   OR (status = 'running') <> (owner IS NOT NULL)
""",
    ),
    Invariant(
        name="context_differs",
        is_paged=True,
        is_deep=True,
        meaning="tasks whose context is not what their steps make of it",
        remedy="report it; `context_at(task_id, now())` is what the steps say",
        sql="""
SELECT task_id || ' at step ' || context_seq AS example FROM page
WHERE status <> 'expected' AND context_at(task_id, context_seq) IS DISTINCT FROM context
""",
    ),
    Invariant(
        name="slept_through",
        is_paged=True,
        is_deep=True,
        meaning="waiting tasks with a message that nobody has looked at",
        remedy="wake each with an event, and report it",
        sql="""
SELECT task_id || ': message ' || i.id || ' of ' || i.received_at AS example
FROM page p, LATERAL (
    SELECT id, received_at FROM inbox WHERE task = p.id AND seq IS NULL ORDER BY id LIMIT 1
) i
WHERE p.status = 'waiting'
""",
    ),
)

INVARIANTS: Mapping[str, Invariant] = MappingProxyType({i.name: i for i in _INVARIANTS})

_GIVEN = "WITH given AS MATERIALIZED (SELECT $1::interval AS lease, $2::int AS max_claims)"

_PAGE = ", page AS ({})"

_FOUND = f"""
SELECT count(*) AS violations, (array_agg(example))[1:{EXAMPLES}] AS examples
FROM (SELECT example FROM ({{sql}}) broken LIMIT {COUNTED}) counted
"""  # noqa: S608 - of constants

RUNNING = f"SELECT * FROM tasks WHERE status = 'running' LIMIT {SAMPLE}"  # noqa: S608
AFTER = f"SELECT * FROM tasks WHERE id > $3 ORDER BY id LIMIT {PAGE}"  # noqa: S608
LAST = f"""
SELECT max(id) AS id FROM (SELECT id FROM tasks WHERE id > $1 ORDER BY id LIMIT {PAGE}) p
"""  # noqa: S608


async def check(
    database: Database, *, lease: timedelta, max_claims: int, is_deep: bool = False
) -> list[Finding]:
    """A finding for each invariant that was asked about; deep: of all tasks' journals."""
    given = (lease, max_claims)
    wanted = [i for i in INVARIANTS.values() if is_deep or not i.is_deep]
    findings = [
        Finding(invariant=i) if i.is_paged and is_deep else await _ask(database, i, given)
        for i in wanted
    ]
    if is_deep:
        async for after in _pages(database):
            findings = [
                f.and_then(await _ask(database, f.invariant, given, after=after))
                if f.invariant.is_paged
                else f
                for f in findings
            ]
    return findings


async def _pages(database: Database) -> AsyncIterator[int]:
    """The ids after which each page of all tasks begins."""
    after = 0
    while (row := await database.fetch_one(LAST, after)) and row["id"] is not None:
        yield after
        after = row["id"]


async def _ask(
    database: Database,
    invariant: Invariant,
    given: tuple[timedelta, int],
    *,
    after: int | None = None,
) -> Finding:
    """`after` None: of the tasks that run."""
    sql = _FOUND.format(sql=invariant.sql)
    if after is not None:
        row = await database.fetch_one(_GIVEN + _PAGE.format(AFTER) + sql, *given, after)
    else:
        row = await database.fetch_one(_GIVEN + _PAGE.format(RUNNING) + sql, *given)
    assert row is not None
    return Finding(
        invariant=invariant, violations=row["violations"], examples=tuple(row["examples"] or ())
    )
