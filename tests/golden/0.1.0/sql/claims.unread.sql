SELECT t.wake,
       (SELECT json_agg(json_build_array(i.id, i.event_type, i.payload, i.step, i.call, i.source)
                        ORDER BY i.id)
        FROM inbox i WHERE i.task = t.id AND i.seq IS NULL) AS inbox
FROM tasks t WHERE t.id = $1
