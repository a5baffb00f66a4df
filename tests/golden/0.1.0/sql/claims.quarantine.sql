WITH looping AS MATERIALIZED (
    -- In the words of the index of runnable tasks: this is looked for every few seconds.
    SELECT id, seq FROM tasks
    WHERE status = 'ready' AND run_at < 'infinity' AND claims >= $1
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
