"""A database names its service, and each worker says which partitions it reads.

Revision: 0016
Follows: 0015
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB, UUID

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "service",
        sa.Column("id", UUID(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="service_pkey"),
    )
    op.execute("INSERT INTO service (id) VALUES (gen_random_uuid())")
    # NULL is a worker of a release that does not say what it reads.
    op.add_column("workers", sa.Column("intake", JSONB()))
    op.add_column("workers", sa.Column("intake_at", sa.DateTime(timezone=True)))


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_column("workers", "intake_at")
    op.drop_column("workers", "intake")
    op.drop_table("service")
