"""How many tasks a worker runs, and an index of tasks that nothing would ever wake.

Revision: 0006
Follows: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column("workers", sa.Column("tasks", sa.Integer(), nullable=True))
    op.add_column("workers", sa.Column("room", sa.Integer(), nullable=True))
    op.create_index(
        "tasks_without_wake_up",
        "tasks",
        ["id"],
        unique=False,
        postgresql_where=sa.text("status IN ('ready', 'waiting') AND run_at = 'infinity'"),
    )


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_index("tasks_without_wake_up", table_name="tasks")
    op.drop_column("workers", "room")
    op.drop_column("workers", "tasks")
