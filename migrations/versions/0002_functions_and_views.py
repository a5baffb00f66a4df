"""Functions and views: any earlier context, progress, steps, and what a dead letter says.

Revision: 0002
Follows: 0001
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# The same rule as `orchestrator.domain.context.apply_change`; a test holds them equal.
CONTEXT_APPLY = """
CREATE FUNCTION context_apply(context jsonb, change jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN change IS NULL THEN context ELSE
        context || change
        || CASE WHEN jsonb_typeof(context->'collected_data') = 'object'
                 AND jsonb_typeof(change->'collected_data') = 'object'
           THEN jsonb_build_object('collected_data',
                    (context->'collected_data') || (change->'collected_data'))
           ELSE '{}' END
        || CASE WHEN jsonb_typeof(context->'event_data') = 'object'
                 AND jsonb_typeof(change->'event_data') = 'object'
           THEN jsonb_build_object('event_data',
                    (context->'event_data') || (change->'event_data'))
           ELSE '{}' END
    END
$$
"""

CONTEXT_FOLD = """
CREATE AGGREGATE context_fold(jsonb) (sfunc = context_apply, stype = jsonb, initcond = '{}')
"""

CONTEXT_AT_STEP = """
CREATE FUNCTION context_at(task_id text, step integer) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT context_fold(s.change ORDER BY s.seq)
    FROM tasks t JOIN steps s ON s.task = t.id
    WHERE t.task_id = context_at.task_id AND s.seq <= context_at.step
    HAVING count(*) > 0
$$
"""

CONTEXT_AT_TIME = """
CREATE FUNCTION context_at(task_id text, moment timestamptz) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT context_fold(s.change ORDER BY s.seq)
    FROM tasks t JOIN steps s ON s.task = t.id
    WHERE t.task_id = context_at.task_id AND s.at <= context_at.moment
    HAVING count(*) > 0
$$
"""

# The headers that `orchestrator.bus.dead_letters` gives a letter, for those that statements write.
DEAD_LETTER_HEADERS = """
CREATE FUNCTION dead_letter_headers(
    reason text, error text, task_id text, source text, headers jsonb) RETURNS jsonb
LANGUAGE sql VOLATILE AS $$
    SELECT jsonb_build_array(
        jsonb_build_array('dlq.id', gen_random_uuid()::text),
        jsonb_build_array('dlq.reason', reason),
        jsonb_build_array('dlq.error', error),
        jsonb_build_array('dlq.task_id', task_id),
        jsonb_build_array('dlq.failed_at', to_char(now() AT TIME ZONE 'UTC',
                                                   'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')),
        jsonb_build_array('dlq.original.topic', split_part(source, '/', 1)),
        jsonb_build_array('dlq.original.partition', split_part(source, '/', 2)),
        jsonb_build_array('dlq.original.offset', split_part(source, '/', 3)))
    || coalesce((SELECT jsonb_agg(jsonb_build_array('dlq.original.header.' || (h->>0), h->1))
                 FROM jsonb_array_elements(headers) h), '[]')
$$
"""

TASK_PROGRESS = """
CREATE VIEW task_progress AS
SELECT t.task_id, t.status, t.description,
       p.collected, p.required, p.missing,
       t.context->>'current_state' AS current_state, t.reason,
       t.seq AS steps, t.tokens, t.tenant, t.created_at, t.updated_at, t.finished_at,
       coalesce(t.finished_at, now()) - t.created_at AS age
FROM tasks t CROSS JOIN LATERAL (
    SELECT count(*)::int AS required,
           count(*) FILTER (WHERE t.context->'collected_data'->>f IS NOT NULL)::int AS collected,
           coalesce(array_agg(f ORDER BY n)
                    FILTER (WHERE t.context->'collected_data'->>f IS NULL), '{}') AS missing
    FROM jsonb_array_elements_text(coalesce(t.context->'required_fields', '[]'))
         WITH ORDINALITY AS required_field(f, n)
) p
"""

TASK_STEPS = """
CREATE VIEW task_steps AS
SELECT t.task_id, s.seq, s.at, s.kind,
       coalesce(s.body->>'agent',
                (SELECT string_agg(c->>'agent', ', ')
                 FROM jsonb_array_elements(s.body->'decision'->'calls') c)) AS agent,
       coalesce(s.body->>'status', s.body->'decision'->>'type') AS status,
       (s.body->>'attempt')::int AS attempt,
       (s.body->>'duration_ms')::int AS duration_ms,
       -- What an agent calls its usage may be anything; a decision's is ours.
       CASE WHEN s.kind = 'decision' THEN (s.body->'usage'->>'input_tokens')::int END
           AS input_tokens,
       CASE WHEN s.kind = 'decision' THEN (s.body->'usage'->>'output_tokens')::int END
           AS output_tokens,
       coalesce(s.body->>'error', s.body->>'reason', s.body->>'waiting_for', s.body->>'event_type',
                s.body->'decision'->>'reason', s.body->'decision'->>'waiting_for',
                s.body->>'description', (s.body->'output')::text) AS summary,
       s.body, s.change
FROM tasks t JOIN steps s ON s.task = t.id
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(CONTEXT_APPLY)
    op.execute(CONTEXT_FOLD)
    op.execute(CONTEXT_AT_STEP)
    op.execute(CONTEXT_AT_TIME)
    op.execute(DEAD_LETTER_HEADERS)
    op.execute(TASK_PROGRESS)
    op.execute(TASK_STEPS)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("DROP VIEW task_steps")
    op.execute("DROP VIEW task_progress")
    op.execute("DROP FUNCTION dead_letter_headers(text, text, text, text, jsonb)")
    op.execute("DROP FUNCTION context_at(text, integer)")
    op.execute("DROP FUNCTION context_at(text, timestamptz)")
    op.execute("DROP AGGREGATE context_fold(jsonb)")
    op.execute("DROP FUNCTION context_apply(jsonb, jsonb)")
