"""Functions and views with which people read tasks: any earlier context, progress, steps.

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
    op.execute(TASK_PROGRESS)
    op.execute(TASK_STEPS)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("DROP VIEW task_steps")
    op.execute("DROP VIEW task_progress")
    op.execute("DROP FUNCTION context_at(text, integer)")
    op.execute("DROP FUNCTION context_at(text, timestamptz)")
    op.execute("DROP AGGREGATE context_fold(jsonb)")
    op.execute("DROP FUNCTION context_apply(jsonb, jsonb)")
