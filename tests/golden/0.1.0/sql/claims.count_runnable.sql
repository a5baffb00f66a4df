SELECT count(*) AS tasks FROM (
    SELECT FROM tasks WHERE status IN ('ready', 'waiting') AND run_at < 'infinity'
                        AND run_at <= now() LIMIT 10000
) counted
