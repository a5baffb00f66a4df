"""How often dead letters were sent again, also where that went well and left no letter.

Revision: 0012
Follows: 0011
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

# As 0003 made it; and a letter tells the first one of its kin, if its message was sent again.
DEAD_LETTER_HEADERS = """
CREATE OR REPLACE FUNCTION dead_letter_headers(
    reason text, error text, task_id text, source text, headers jsonb) RETURNS jsonb
LANGUAGE sql VOLATILE AS $$
    WITH at AS (
        SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS now
    ), original AS (
        SELECT h->>0 AS name, h->1 AS value, n
        FROM jsonb_array_elements(headers) WITH ORDINALITY AS e(h, n)
    ), replays AS (
        SELECT greatest(
            (SELECT max((value#>>'{{}}')::int) FROM original
             WHERE name = 'dlq.replays' AND value#>>'{{}}' ~ '^[0-9]{{1,6}}$'),
            (SELECT count(*)::int FROM steps s JOIN tasks t ON t.id = s.task
             WHERE t.task_id = dead_letter_headers.task_id AND s.kind = 'retried')) AS number
    )
    SELECT jsonb_build_array(
        jsonb_build_array('dlq.id', gen_random_uuid()::text),
        jsonb_build_array('dlq.reason', reason),
        jsonb_build_array('dlq.error', left(error, 1000)),
        jsonb_build_array('dlq.task_id', task_id),
        jsonb_build_array('dlq.first_seen', coalesce(
            (SELECT value#>>'{{}}' FROM original WHERE name = 'dlq.first_seen' LIMIT 1), at.now)),
        jsonb_build_array('dlq.failed_at', at.now),
        jsonb_build_array('dlq.replays', replays.number::text),
        jsonb_build_array('dlq.original.topic', split_part(source, '/', 1)),
        jsonb_build_array('dlq.original.partition', split_part(source, '/', 2)),
        jsonb_build_array('dlq.original.offset', split_part(source, '/', 3))){replay_of}
    || coalesce((SELECT jsonb_agg(jsonb_build_array('dlq.original.header.' || name, value)
                                  ORDER BY n)
                 FROM original WHERE name NOT LIKE 'dlq.%'), '[]')
    FROM at, replays
$$
"""
REPLAY_OF = """
    || coalesce((SELECT jsonb_build_array(jsonb_build_array(name, value))
                 FROM original WHERE name = 'dlq.replay_of' LIMIT 1), '[]')"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "dead_letter_replays",
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("replays", sa.Integer(), nullable=False),
        sa.Column(
            "at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("origin", name="dead_letter_replays_pkey"),
    )
    op.execute(DEAD_LETTER_HEADERS.format(replay_of=REPLAY_OF))


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(DEAD_LETTER_HEADERS.format(replay_of=""))
    op.drop_table("dead_letter_replays")
