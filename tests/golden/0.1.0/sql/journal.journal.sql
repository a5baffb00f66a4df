WITH entry AS MATERIALIZED (
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::int[], $4::text[], $5::bigint[],
                         $6::bigint[], $7::text[], $8::timestamptz[], $9::text[], $18::int[])
    AS e(task, epoch, seq, context, tokens, seen, status, run_at, reason, follows)
), locked AS MATERIALIZED (
    SELECT id, epoch, seq FROM tasks WHERE id = ANY($1) ORDER BY id FOR UPDATE
), owned AS MATERIALIZED (
    -- A server that forgot its last commits (a restore, a failover) must not get a journal with a
    -- hole: what would follow a step that is not there is refused like a stale owner's.
    SELECT e.* FROM entry e JOIN locked l ON l.id = e.task AND l.epoch = e.epoch
                                         AND l.seq >= e.follows
), step AS (
    INSERT INTO steps (task, seq, kind, body, change, epoch)
    SELECT s.task, s.seq, s.kind, s.body::jsonb, s.change::jsonb, o.epoch
    FROM unnest($10::bigint[], $11::int[], $12::text[], $13::text[], $14::text[])
         AS s(task, seq, kind, body, change)
    JOIN owned o USING (task)
    ON CONFLICT DO NOTHING
    RETURNING task, seq
), told AS (
    INSERT INTO outbox (task, seq) SELECT task, seq FROM step ORDER BY task, seq
), applied AS (
    UPDATE inbox i SET seq = a.seq
    FROM unnest($15::bigint[], $16::bigint[], $17::int[]) AS a(task, id, seq)
    JOIN owned o USING (task)
    WHERE i.id = a.id
)
UPDATE tasks t SET
    seq = greatest(t.seq, o.seq),
    context = coalesce(o.context::jsonb, t.context),
    context_seq = CASE WHEN o.context IS NULL THEN t.context_seq ELSE o.seq END,
    tokens = o.tokens,
    -- To come to rest is progress too, also where there was nothing to write down.
    claims = CASE WHEN o.seq > t.seq OR o.status IS NOT NULL THEN 0 ELSE t.claims END,
    updated_at = now(),
    status = CASE
        WHEN o.status IS NULL THEN t.status
        -- A message that came while the task was coming to rest must not be slept through.
        WHEN o.status = 'waiting' AND t.wake > o.seen THEN 'ready'
        ELSE o.status END,
    run_at = CASE
        WHEN o.status IS NULL THEN t.run_at
        WHEN o.status = 'waiting' AND t.wake > o.seen THEN now()
        ELSE coalesce(o.run_at, 'infinity') END,
    reason = CASE WHEN o.status IS NULL THEN t.reason ELSE o.reason END,
    owner = CASE WHEN o.status IS NULL THEN t.owner END,
    finished_at = CASE
        WHEN o.status IN ('completed', 'failed', 'cancelled') THEN now()
        ELSE t.finished_at END
FROM owned o WHERE t.id = o.task
RETURNING t.id, t.status, t.wake
