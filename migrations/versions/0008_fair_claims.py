"""Tenants take turns: a queue for each tenant and priority, and timers apart from them.

Revision: 0008
Follows: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # `tasks_runnable` stays: the workers of release 0.1.0 claim by it.
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_index(
        "tasks_ready",
        "tasks",
        ["tenant", "priority", "run_at"],
        postgresql_where=sa.text("status = 'ready'"),
    )
    op.create_index(
        "tasks_timers",
        "tasks",
        ["run_at"],
        postgresql_where=sa.text("status = 'waiting' AND run_at < 'infinity'"),
    )
    op.create_index(
        "tasks_looping",
        "tasks",
        ["claims"],
        postgresql_where=sa.text("status IN ('ready', 'waiting') AND claims > 0"),
    )


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for name in ("tasks_looping", "tasks_timers", "tasks_ready"):
        op.drop_index(name, table_name="tasks")
