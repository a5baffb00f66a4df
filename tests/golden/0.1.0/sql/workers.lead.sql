INSERT INTO leases AS l (name, owner, epoch) VALUES ($1, $2, 1)
ON CONFLICT (name) DO UPDATE SET owner = excluded.owner,
    epoch = CASE WHEN l.owner = excluded.owner THEN l.epoch ELSE l.epoch + 1 END
WHERE l.owner IS NULL OR l.owner = excluded.owner OR NOT EXISTS (
    SELECT FROM workers w WHERE w.id = l.owner AND w.heartbeat_at > now() - $3::interval)
RETURNING owner
