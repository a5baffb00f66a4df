WITH gone AS (
    DELETE FROM workers WHERE name = $1 RETURNING id
), orphan AS MATERIALIZED (
    SELECT t.id FROM tasks t JOIN gone g ON t.owner = g.id WHERE t.status = 'running'
    ORDER BY t.id FOR UPDATE OF t
), released AS (
    UPDATE tasks t SET status = 'ready', epoch = epoch + 1, owner = NULL, run_at = now()
    FROM orphan o WHERE t.id = o.id
)
SELECT count(*) AS gone FROM gone
