"""What only has to end finds a worker past every queue; a fork is no replay of what it was made of.

Revision: 0013
Follows: 0012
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

# As 0012 made it; and steps that a fork shares with its origin, which have no epoch, do not count.
REPLAYS = "WHERE t.task_id = dead_letter_headers.task_id AND s.kind = ''retried''"
OWN = f"{REPLAYS} AND s.epoch > 0"

CHANGE = """
DO $do$
DECLARE
    here text := pg_get_functiondef(
        'dead_letter_headers(text, text, text, text, jsonb)'::regprocedure);
BEGIN
    IF position('{old}' IN here) = 0 THEN
        RAISE 'dead_letter_headers is not as revision 0012 made it';
    END IF;
    EXECUTE replace(here, '{old}', '{new}');
END
$do$
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column("tasks", sa.Column("urgent_at", sa.DateTime(timezone=True)))
    op.create_index(
        "tasks_urgent",
        "tasks",
        ["urgent_at"],
        postgresql_where=sa.text("status = 'ready' AND urgent_at IS NOT NULL"),
    )
    op.create_index(
        "tasks_deadline",
        "tasks",
        ["deadline"],
        postgresql_where=sa.text("status = 'ready' AND deadline IS NOT NULL"),
    )
    op.execute(CHANGE.format(old=REPLAYS, new=OWN))


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(CHANGE.format(old=OWN, new=REPLAYS))
    op.drop_index("tasks_deadline", table_name="tasks")
    op.drop_index("tasks_urgent", table_name="tasks")
    op.drop_column("tasks", "urgent_at")
