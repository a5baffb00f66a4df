UPDATE workers SET heartbeat_at = now() WHERE id = $1 RETURNING clock_timestamp() AS at
