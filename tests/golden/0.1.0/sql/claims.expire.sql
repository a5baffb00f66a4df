WITH late AS MATERIALIZED (
    SELECT id, task_id FROM tasks WHERE status = 'expected' AND run_at <= now() ORDER BY id
    LIMIT 1000 FOR UPDATE SKIP LOCKED
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
