SELECT o.id, o.topic, o.key, o.value, o.headers, t.task_id, t.tenant, t.traceparent,
       s.seq, s.kind, s.body, s.change, s.at
FROM (SELECT * FROM outbox ORDER BY id LIMIT $1) o
LEFT JOIN LATERAL (
    SELECT task_id, tenant, traceparent FROM tasks WHERE id = o.task LIMIT 1
) t ON true
LEFT JOIN LATERAL (
    SELECT seq, kind, body, change, at FROM steps WHERE task = o.task AND seq = o.seq LIMIT 1
) s ON true
ORDER BY o.id
