WITH candidate AS MATERIALIZED (
    SELECT id, priority, tenant, run_at FROM tasks
    WHERE status IN ('ready', 'waiting') AND run_at < 'infinity' AND run_at <= now()
      AND claims < $3
    ORDER BY priority, run_at LIMIT $2 * 4
    FOR UPDATE SKIP LOCKED
), chosen AS (
    SELECT id FROM (
        SELECT id, priority, run_at,
               row_number() OVER (PARTITION BY priority, tenant ORDER BY run_at) AS turn
        FROM candidate
    ) ranked ORDER BY priority, turn, run_at LIMIT $2
)
UPDATE tasks t SET status = 'running', epoch = epoch + 1, owner = $1, claims = claims + 1,
                   reason = NULL
FROM chosen c WHERE t.id = c.id
RETURNING t.id, t.epoch
