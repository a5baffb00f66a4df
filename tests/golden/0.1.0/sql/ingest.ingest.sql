WITH moved AS (
    UPDATE kafka_positions p SET next_offset = a.next_offset, updated_at = now()
    FROM unnest($2::text[], $3::int[], $4::bigint[], $5::bigint[])
         AS a(topic, partition, expected, next_offset)
    WHERE p.cluster_id = $1 AND p.topic = a.topic AND p.partition = a.partition
      AND p.next_offset = a.expected
    RETURNING p.topic, p.partition
), message AS MATERIALIZED (
    SELECT m.* FROM unnest(
        $6::text[], $7::int[], $8::bigint[], $9::text[], $10::text[], $11::text[], $12::text[],
        $13::int[], $14::int[], $15::text[], $16::bytea[], $17::bytea[], $18::text[]
    ) WITH ORDINALITY AS m(topic, partition, "offset", task_id, event_type, event_id, payload,
                           step, call, task, key, value, headers, n)
    -- One row that the planner takes for a thousand, and a condition that it takes for likely: with
    -- what it makes of parameters alone it joins the batch to itself row by row, 60 times slower.
    CROSS JOIN regexp_split_to_table('', ',') AS many
    WHERE coalesce(m.topic || '/' || m.partition
                   = ANY (ARRAY(SELECT topic || '/' || partition FROM moved)), false)
), dead AS (
    INSERT INTO outbox (topic, key, value, headers)
    SELECT d.dead_topic, d.key, d.value, d.headers::jsonb
    FROM unnest($19::text[], $20::int[], $21::text[], $22::bytea[], $23::bytea[], $24::text[])
         WITH ORDINALITY AS d(topic, partition, dead_topic, key, value, headers, n)
    JOIN moved USING (topic, partition)
    ORDER BY d.n
), first_task AS (
    SELECT DISTINCT ON (task_id) task_id, n, task::jsonb AS doc FROM message
    WHERE task IS NOT NULL ORDER BY task_id, n
), touched AS MATERIALIZED (
    SELECT m.task_id, f.doc, count(*) FILTER (WHERE m.task IS NULL) AS events,
           row_number() OVER (ORDER BY min(m.n)) <= $25::int AS has_room
    FROM message m LEFT JOIN first_task f USING (task_id) GROUP BY m.task_id, f.doc
), locked AS MATERIALIZED (
    -- In the order in which the journal locks too, or the two deadlock.
    SELECT id FROM tasks WHERE task_id = ANY (ARRAY(SELECT task_id FROM touched))
    ORDER BY id FOR UPDATE
), written AS (
    INSERT INTO tasks AS t (
        task_id, kind, tenant, description, status, context, context_seq, seq, priority, deadline,
        budget_tokens, metadata, traceparent, run_at, wake, claims, epoch, owner)
    SELECT g.task_id, coalesce(doc->>'kind', 'agentic'), coalesce(doc->>'tenant', 'default'),
        coalesce(doc->>'description', ''),
        CASE WHEN doc IS NULL THEN 'expected' WHEN has_room THEN 'running' ELSE 'ready' END,
        coalesce(doc->'context', '{}'), CASE WHEN doc IS NULL THEN 0 ELSE 1 END,
        CASE WHEN doc IS NULL THEN 0 ELSE 1 END,
        coalesce((doc->>'priority')::smallint, 1), (doc->>'deadline')::timestamptz,
        (doc->>'budget_tokens')::bigint, coalesce(doc->'metadata', '{}'), doc->>'traceparent',
        CASE WHEN doc IS NULL THEN now() + $26::interval ELSE now() END,
        g.events,
        -- For a row that exists, this is how the update below learns that there is room.
        CASE WHEN has_room THEN 1 ELSE 0 END,
        CASE WHEN doc IS NOT NULL AND has_room THEN 1 ELSE 0 END,
        CASE WHEN doc IS NOT NULL AND has_room THEN $27::bigint END
    FROM touched g WHERE (SELECT count(*) FROM locked) >= 0
    ORDER BY g.task_id
    ON CONFLICT (task_id) DO UPDATE SET
        wake = t.wake + excluded.wake,
        reason = CASE WHEN t.status = 'waiting' AND excluded.wake > 0 THEN NULL ELSE t.reason END,
        updated_at = now(),
        kind = CASE WHEN t.status = 'expected' THEN excluded.kind ELSE t.kind END,
        tenant = CASE WHEN t.status = 'expected' THEN excluded.tenant ELSE t.tenant END,
        description = CASE WHEN t.status = 'expected' THEN excluded.description
                           ELSE t.description END,
        context = CASE WHEN t.status = 'expected' THEN excluded.context ELSE t.context END,
        context_seq = CASE WHEN t.status = 'expected' THEN excluded.seq ELSE t.context_seq END,
        seq = CASE WHEN t.status = 'expected' THEN excluded.seq ELSE t.seq END,
        priority = CASE WHEN t.status = 'expected' THEN excluded.priority ELSE t.priority END,
        deadline = CASE WHEN t.status = 'expected' THEN excluded.deadline ELSE t.deadline END,
        budget_tokens = CASE WHEN t.status = 'expected' THEN excluded.budget_tokens
                             ELSE t.budget_tokens END,
        metadata = CASE WHEN t.status = 'expected' THEN excluded.metadata ELSE t.metadata END,
        traceparent = CASE WHEN t.status = 'expected' THEN excluded.traceparent
                           ELSE t.traceparent END,
        created_at = CASE WHEN t.status = 'expected' AND excluded.status <> 'expected'
                          THEN now() ELSE t.created_at END,
        status = CASE
            WHEN t.status = 'expected' THEN excluded.status
            WHEN t.status IN ('waiting', 'ready') AND excluded.wake > 0
                THEN CASE WHEN excluded.claims = 1 AND t.claims < $28 THEN 'running'
                          ELSE 'ready' END
            ELSE t.status END,
        epoch = CASE
            WHEN t.status = 'expected' AND excluded.status = 'running'
                 OR t.status IN ('waiting', 'ready') AND excluded.wake > 0
                    AND excluded.claims = 1 AND t.claims < $28
            THEN t.epoch + 1 ELSE t.epoch END,
        owner = CASE
            WHEN t.status = 'expected' THEN excluded.owner
            WHEN t.status IN ('waiting', 'ready') AND excluded.wake > 0
                 AND excluded.claims = 1 AND t.claims < $28
            THEN $27 ELSE t.owner END,
        claims = CASE
            WHEN t.status = 'expected' THEN excluded.epoch
            WHEN t.status IN ('waiting', 'ready') AND excluded.wake > 0
                 AND excluded.claims = 1 AND t.claims < $28
            THEN t.claims + 1 ELSE t.claims END,
        run_at = CASE
            WHEN t.status = 'expected' THEN
                CASE WHEN excluded.status = 'expected' THEN t.run_at ELSE now() END
            WHEN t.status IN ('waiting', 'ready') AND excluded.wake > 0 THEN now()
            ELSE t.run_at END
    RETURNING t.id, t.task_id, t.status, t.epoch, t.owner
), accepted AS (
    INSERT INTO steps (task, seq, kind, body, change, epoch)
    SELECT w.id, 1, 'accepted',
           jsonb_build_object('description', g.doc->'description', 'source', g.doc->'source'),
           g.doc->'context', w.epoch
    FROM written w JOIN touched g USING (task_id)
    WHERE g.doc IS NOT NULL
    ON CONFLICT DO NOTHING
    RETURNING task
), told AS (
    INSERT INTO outbox (task, seq) SELECT task, 1 FROM accepted ORDER BY task
), kept AS (
    INSERT INTO inbox (task, event_type, event_id, payload, step, call, seq, source,
                       key, value, headers)
    SELECT w.id, m.event_type, m.event_id, coalesce(m.payload, '{}')::jsonb, m.step, m.call,
           CASE WHEN m.task IS NOT NULL THEN 1 END,
           m.topic || '/' || m.partition || '/' || m."offset", m.key, m.value, m.headers::jsonb
    FROM message m JOIN written w USING (task_id)
    LEFT JOIN first_task f ON f.task_id = m.task_id AND f.n = m.n
    LEFT JOIN accepted a ON a.task = w.id
    WHERE m.task IS NULL OR (f.n IS NOT NULL AND a.task IS NOT NULL)
    ORDER BY m.n
    ON CONFLICT (task, event_id) WHERE event_id IS NOT NULL DO NOTHING
)
SELECT 'moved' AS what, topic, partition, NULL::bigint AS id, NULL::bigint AS epoch FROM moved
UNION ALL
SELECT CASE WHEN w.status = 'ready' THEN 'ready' WHEN w.owner = $27 THEN 'mine' ELSE 'woken' END,
       NULL, NULL, w.id, w.epoch
FROM written w WHERE w.status IN ('ready', 'running')
