"""How large a task is, so that a worker loads no more at once than it has memory for.

Revision: 0010
Follows: 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # What ran before counts as empty: it is loaded as it was until now.
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column("tasks", sa.Column("bytes", sa.BigInteger(), server_default="0", nullable=False))


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_column("tasks", "bytes")
