INSERT INTO workers (name) VALUES ($1) RETURNING id
