"""The summary of a step is its first text that is not empty: a result's `reason` mostly is.

Revision: 0011
Follows: 0010
"""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

VIEW = """
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
       {summary} AS summary,
       s.body, s.change, (s.body->>'cost_micros')::bigint / 1000000.0 AS cost
FROM tasks t JOIN steps s ON s.task = t.id
"""

TEXTS = (
    "s.body->>'error'",
    "s.body->>'reason'",
    "s.body->>'waiting_for'",
    "s.body->>'event_type'",
    "s.body->'decision'->>'reason'",
    "s.body->'decision'->>'waiting_for'",
    "s.body->>'description'",
    "(s.body->'output')::text",
)


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    found = ", ".join(f"nullif({text}, '')" for text in TEXTS)
    op.execute(VIEW.format(summary=f"coalesce({found})"))


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(VIEW.format(summary=f"coalesce({', '.join(TEXTS)})"))
