"""A letter that PostgreSQL writes counts its replays, as those do that the intake writes.

Revision: 0003
Follows: 0002
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# Times that the message was sent again, or that the task was sent back to work: whichever is more.
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
            (SELECT max((value#>>'{}')::int) FROM original
             WHERE name = 'dlq.replays' AND value#>>'{}' ~ '^[0-9]{1,6}$'),
            (SELECT count(*)::int FROM steps s JOIN tasks t ON t.id = s.task
             WHERE t.task_id = dead_letter_headers.task_id AND s.kind = 'retried')) AS number
    )
    SELECT jsonb_build_array(
        jsonb_build_array('dlq.id', gen_random_uuid()::text),
        jsonb_build_array('dlq.reason', reason),
        jsonb_build_array('dlq.error', left(error, 1000)),
        jsonb_build_array('dlq.task_id', task_id),
        jsonb_build_array('dlq.first_seen', coalesce(
            (SELECT value#>>'{}' FROM original WHERE name = 'dlq.first_seen' LIMIT 1), at.now)),
        jsonb_build_array('dlq.failed_at', at.now),
        jsonb_build_array('dlq.replays', replays.number::text),
        jsonb_build_array('dlq.original.topic', split_part(source, '/', 1)),
        jsonb_build_array('dlq.original.partition', split_part(source, '/', 2)),
        jsonb_build_array('dlq.original.offset', split_part(source, '/', 3)))
    || coalesce((SELECT jsonb_agg(jsonb_build_array('dlq.original.header.' || name, value)
                                  ORDER BY n)
                 FROM original WHERE name NOT LIKE 'dlq.%'), '[]')
    FROM at, replays
$$
"""

# As 0002 made it.
BEFORE = """
CREATE OR REPLACE FUNCTION dead_letter_headers(
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


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(DEAD_LETTER_HEADERS)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(BEFORE)
