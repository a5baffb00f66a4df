WITH stranded AS MATERIALIZED (
    SELECT t.id FROM tasks t
    WHERE t.status = 'running' AND NOT EXISTS (
        SELECT FROM workers w WHERE w.id = t.owner AND w.heartbeat_at > now() - $1::interval)
    ORDER BY t.id LIMIT 10000 FOR UPDATE
)
UPDATE tasks t SET status = 'ready', epoch = epoch + 1, owner = NULL, run_at = now()
FROM stranded s WHERE t.id = s.id AND t.status = 'running'
RETURNING t.id
