SELECT t.id, t.task_id, t.kind, t.tenant, t.description, t.deadline, t.budget_tokens, t.metadata,
       t.traceparent, t.created_at, t.epoch, t.wake, t.context, t.context_seq, t.claims,
       (SELECT json_agg(json_build_array(s.seq, s.kind, s.body, s.change, s.at) ORDER BY s.seq)
        FROM steps s WHERE s.task = t.id) AS steps,
       (SELECT json_agg(json_build_array(i.id, i.event_type, i.payload, i.step, i.call, i.source)
                        ORDER BY i.id)
        FROM inbox i WHERE i.task = t.id AND i.seq IS NULL) AS inbox
FROM tasks t WHERE t.id = ANY($1::bigint[]) AND t.status = 'running' AND t.owner = $2
