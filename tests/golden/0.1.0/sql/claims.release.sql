WITH mine AS MATERIALIZED (
    SELECT t.id FROM tasks t
    JOIN unnest($2::bigint[], $3::bigint[]) AS r(id, epoch) ON r.id = t.id AND r.epoch = t.epoch
    WHERE t.status = 'running' AND t.owner = $1 ORDER BY t.id FOR UPDATE OF t
)
UPDATE tasks t SET status = 'ready', epoch = epoch + 1, owner = NULL,
                   run_at = now() + coalesce($4::interval, '0'),
                   claims = CASE WHEN $4 IS NULL THEN greatest(claims - 1, 0) ELSE claims END
FROM mine m WHERE t.id = m.id
RETURNING t.id
