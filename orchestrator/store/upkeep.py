"""What any worker does for all now and then: sets aside what loops, gives up what never came."""

from dataclasses import dataclass

from orchestrator.store.database import Database

# Each of these leaves its words in the journal and on its way to Kafka, like a runner's own steps.
QUARANTINE = """
WITH looping AS MATERIALIZED (
    -- In the words of an index of its own: this is looked for every few seconds.
    SELECT id, seq FROM tasks
    WHERE status IN ('ready', 'waiting') AND claims > 0 AND claims >= $1 AND run_at <= now()
    ORDER BY id LIMIT 1000 FOR UPDATE SKIP LOCKED
), step AS (
    INSERT INTO steps (task, seq, kind, body, epoch)
    SELECT l.id, l.seq + 1, 'failed', jsonb_build_object('code', 'crash_loop', 'reason',
        format('claimed %s times without a step: it may be what kills its workers; '
               'look at their logs, then `orchestrator tasks retry`', $1::int)), t.epoch
    FROM looping l JOIN tasks t USING (id)
    RETURNING task, seq
), told AS (
    INSERT INTO outbox (task, seq) SELECT task, seq FROM step ORDER BY task
), dead AS (
    INSERT INTO outbox (topic, key, value, headers)
    SELECT $2, i.key, i.value, dead_letter_headers(
        'crash_loop', format('claimed %s times without a step', $1::int), t.task_id, i.source,
        i.headers)
    FROM looping l JOIN tasks t USING (id) JOIN inbox i ON i.task = l.id AND i.event_type = 'task'
)
UPDATE tasks t SET status = 'quarantined', seq = step.seq, reason = 'crash loop',
                   run_at = 'infinity', updated_at = now()
FROM step WHERE t.id = step.task
RETURNING t.id
"""

# The row goes, or the task's own message would be taken for a second one if it still came; the
# events are in the dead letters. A task with an event that came after this statement began, and
# before the lock, waits for the next time: the statement can't see it, but each one raises `wake`.
EXPIRE = """
WITH locked AS MATERIALIZED (
    SELECT id, wake FROM tasks WHERE status = 'expected' AND run_at <= now() ORDER BY id
    LIMIT 1000 FOR UPDATE SKIP LOCKED
), late AS MATERIALIZED (
    SELECT id, t.task_id FROM tasks t JOIN locked l USING (id) WHERE t.wake = l.wake
), event AS (
    DELETE FROM inbox i USING late l WHERE i.task = l.id
    RETURNING i.id, i.key, i.value, i.source, i.headers, l.task_id
), dead AS (
    INSERT INTO outbox (topic, key, value, headers)
    SELECT $1, key, value, dead_letter_headers(
        'unknown_task', format('no task %s came within the time it was expected', task_id), task_id,
        source, headers)
    FROM event ORDER BY id
)
DELETE FROM tasks t USING late WHERE t.id = late.id RETURNING t.id
"""

COUNT_RUNNABLE = """
SELECT count(*) AS tasks FROM (
    (SELECT FROM tasks WHERE status = 'ready' AND run_at <= now() LIMIT 10000)
    UNION ALL
    (SELECT FROM tasks WHERE status = 'waiting' AND run_at < 'infinity' AND run_at <= now()
     LIMIT 10000)
) counted
"""


# What is dead after the oldest snapshot of a database can't be swept away: queues grow slow. A
# transaction that was prepared and forgotten is no session.
OLDEST_SNAPSHOT = """
SELECT seconds, who FROM (
    SELECT extract(epoch FROM now() - xact_start)::float8 AS seconds,
           format('%s, process %s', coalesce(nullif(application_name, ''), usename), pid) AS who
    FROM pg_stat_activity
    WHERE datname = current_database() AND coalesce(backend_xmin, backend_xid) IS NOT NULL
    UNION ALL
    SELECT extract(epoch FROM now() - prepared)::float8, format('prepared transaction %s', gid)
    FROM pg_prepared_xacts WHERE database = current_database()
) holder WHERE seconds IS NOT NULL ORDER BY seconds DESC LIMIT 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class OldestSnapshot:
    """Of all transactions that are open in this database."""

    seconds: float
    who: str


async def oldest_snapshot(database: Database) -> OldestSnapshot:
    """Who holds the oldest; a role without `pg_monitor` sees its own sessions alone."""
    row = await database.fetch_one(OLDEST_SNAPSHOT)
    if row is None:
        return OldestSnapshot(seconds=0.0, who="nobody")
    return OldestSnapshot(seconds=max(0.0, row["seconds"]), who=row["who"])


async def quarantine(database: Database, *, max_claims: int, dead_letters: str) -> int:
    """Sets tasks aside that were claimed `max_claims` times without a step; answers how many."""
    return len(await database.fetch(QUARANTINE, max_claims, dead_letters))


async def expire_expected(database: Database, *, dead_letters: str) -> int:
    """Gives up on tasks of which only events ever came; answers how many."""
    return len(await database.fetch(EXPIRE, dead_letters))


async def count_runnable(database: Database) -> int:
    """Tasks that are due and that nobody runs; counted up to 10000 of each status."""
    row = await database.fetch_one(COUNT_RUNNABLE)
    return row["tasks"] if row else 0
