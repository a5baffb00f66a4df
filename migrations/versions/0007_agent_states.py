"""Who may be called: operators' pauses, tasks parked for an agent or a model, and breakers to see.

Revision: 0007
Follows: 0006
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column("tasks", sa.Column("parked_for", JSONB()))
    op.create_index(
        "tasks_parked", "tasks", ["id"], postgresql_where=sa.text("parked_for IS NOT NULL")
    )
    op.create_table(
        "pauses",
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column(
            "at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("target", name="pauses_pkey"),
    )
    op.create_table(
        "agent_states",
        sa.Column("worker", sa.BigInteger(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("state", JSONB(), nullable=False),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("worker", "target", name="agent_states_pkey"),
    )


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_table("agent_states")
    op.drop_table("pauses")
    op.drop_index("tasks_parked", "tasks")
    op.drop_column("tasks", "parked_for")
