"""Messages that Kafka refuses are set aside; positions remember at which message workers died.

Revision: 0017
Follows: 0016
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "outbox_refused",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("task", sa.BigInteger()),
        sa.Column("seq", sa.Integer()),
        sa.Column("topic", sa.Text()),
        sa.Column("key", sa.LargeBinary()),
        sa.Column("value", sa.LargeBinary()),
        sa.Column("headers", postgresql.JSONB()),
        sa.Column("refused_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column(
            "at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("id", name="outbox_refused_pkey"),
    )
    op.create_index(
        "outbox_topic", "outbox", ["topic", "id"], postgresql_where=sa.text("topic IS NOT NULL")
    )
    op.add_column("kafka_positions", sa.Column("placed_offset", sa.BigInteger()))
    op.add_column("kafka_positions", sa.Column("placed_by", sa.BigInteger()))
    op.add_column(
        "kafka_positions",
        sa.Column("crashes", sa.SmallInteger(), server_default="0", nullable=False),
    )
    op.add_column(
        "kafka_positions",
        sa.Column("is_fetched", sa.Boolean(), server_default=sa.text("false"), nullable=False),
    )


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_column("kafka_positions", "is_fetched")
    op.drop_column("kafka_positions", "crashes")
    op.drop_column("kafka_positions", "placed_by")
    op.drop_column("kafka_positions", "placed_offset")
    op.drop_index("outbox_topic", table_name="outbox")
    # What was set aside is sent again rather than lost.
    op.execute(
        "INSERT INTO outbox (id, task, seq, topic, key, value, headers) OVERRIDING SYSTEM VALUE "
        "SELECT id, task, seq, topic, key, value, headers FROM outbox_refused ORDER BY id"
    )
    op.drop_table("outbox_refused")
