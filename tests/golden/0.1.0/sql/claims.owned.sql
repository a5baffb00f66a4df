SELECT id, epoch FROM tasks WHERE status = 'running' AND owner = $1
