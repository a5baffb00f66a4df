"""What a task may use, and what it cost.

Revision: 0009
Follows: 0008
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

TASK_PROGRESS = """
CREATE OR REPLACE VIEW task_progress AS
SELECT t.task_id, t.status, t.description,
       p.collected, p.required, p.missing,
       t.context->>'current_state' AS current_state, t.reason,
       t.seq AS steps, t.tokens, t.tenant, t.created_at, t.updated_at, t.finished_at,
       coalesce(t.finished_at, now()) - t.created_at AS age{cost}
FROM tasks t CROSS JOIN LATERAL (
    SELECT count(*)::int AS required,
           count(*) FILTER (WHERE t.context->'collected_data'->>f IS NOT NULL)::int AS collected,
           coalesce(array_agg(f ORDER BY n)
                    FILTER (WHERE t.context->'collected_data'->>f IS NULL), '{{}}') AS missing
    FROM jsonb_array_elements_text(coalesce(t.context->'required_fields', '[]'))
         WITH ORDINALITY AS required_field(f, n)
) p
"""

TASK_STEPS = """
CREATE OR REPLACE VIEW task_steps AS
SELECT t.task_id, s.seq, s.at, s.kind,
       coalesce(s.body->>'agent',
                (SELECT string_agg(c->>'agent', ', ')
                 FROM jsonb_array_elements(s.body->'decision'->'calls') c)) AS agent,
       coalesce(s.body->>'status', s.body->'decision'->>'type') AS status,
       (s.body->>'attempt')::int AS attempt,
       (s.body->>'duration_ms')::int AS duration_ms,
       CASE WHEN s.kind = 'decision' THEN (s.body->'usage'->>'input_tokens')::int END
           AS input_tokens,
       CASE WHEN s.kind = 'decision' THEN (s.body->'usage'->>'output_tokens')::int END
           AS output_tokens,
       coalesce(s.body->>'error', s.body->>'reason', s.body->>'waiting_for', s.body->>'event_type',
                s.body->'decision'->>'reason', s.body->'decision'->>'waiting_for',
                s.body->>'description', (s.body->'output')::text) AS summary,
       s.body, s.change{cost}
FROM tasks t JOIN steps s ON s.task = t.id
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column("tasks", sa.Column("budget", JSONB(), nullable=True))
    op.add_column(
        "tasks", sa.Column("cost_micros", sa.BigInteger(), server_default="0", nullable=False)
    )
    op.execute(TASK_PROGRESS.format(cost=", t.cost_micros / 1000000.0 AS cost"))
    op.execute(TASK_STEPS.format(cost=", (s.body->>'cost_micros')::bigint / 1000000.0 AS cost"))


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("DROP VIEW task_steps")
    op.execute("DROP VIEW task_progress")
    op.drop_column("tasks", "cost_micros")
    op.drop_column("tasks", "budget")
    op.execute(TASK_PROGRESS.format(cost=""))
    op.execute(TASK_STEPS.format(cost=""))
