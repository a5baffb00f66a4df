SELECT count(*) AS rows,
       coalesce((SELECT extract(epoch FROM now() - s.at)::float8 FROM outbox o
                 JOIN steps s ON s.task = o.task AND s.seq = o.seq ORDER BY o.id LIMIT 1), 0)
           AS oldest_seconds
FROM (SELECT FROM outbox LIMIT 10000) counted
