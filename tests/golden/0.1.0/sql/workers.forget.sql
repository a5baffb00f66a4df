DELETE FROM workers WHERE heartbeat_at < now() - $1::interval RETURNING name
