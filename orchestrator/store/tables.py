"""The schema, for Alembic to compare with the migrations; the statements are in the modules beside.

`tasks` is written at every step: it is filled to 70 % so that new versions of a row stay close,
and no index covers a column that a running task changes. `steps` and `inbox` carry no foreign keys:
they are only ever written by a statement that holds the task's row, and a check a row is not free.
`steps` is partitioned by the month in which its task came, with which `tasks.id` begins: see
`store.retention`.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, UUID

metadata = MetaData()

_now = text("now()")
_time = DateTime(timezone=True)

tasks = Table(
    "tasks",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("task_id", Text, nullable=False),
    Column("kind", Text, nullable=False, server_default="agentic"),
    Column("tenant", Text, nullable=False, server_default="default"),
    Column("description", Text, nullable=False, server_default=""),
    Column("status", Text, nullable=False),
    Column("context", JSONB, nullable=False, server_default=text("'{}'")),
    Column("context_seq", Integer, nullable=False, server_default="0"),
    Column("seq", Integer, nullable=False, server_default="0"),
    Column("tokens", BigInteger, nullable=False, server_default="0"),
    Column("reason", Text),
    Column("priority", SmallInteger, nullable=False, server_default="1"),
    Column("run_at", _time, nullable=False, server_default=_now),
    Column("deadline", _time),
    Column("budget_tokens", BigInteger),
    Column("budget", JSONB),
    Column("cost_micros", BigInteger, nullable=False, server_default="0"),
    Column("metadata", JSONB, nullable=False, server_default=text("'{}'")),
    Column("traceparent", Text),
    Column("epoch", BigInteger, nullable=False, server_default="0"),
    Column("owner", BigInteger),
    Column("claims", SmallInteger, nullable=False, server_default="0"),
    Column("wake", BigInteger, nullable=False, server_default="0"),
    # Of its messages and its journal, as JSON: what it takes to load it.
    Column("bytes", BigInteger, nullable=False, server_default="0"),
    Column("created_at", _time, nullable=False, server_default=_now),
    Column("updated_at", _time, nullable=False, server_default=_now),
    Column("finished_at", _time),
    Column("parked_for", JSONB),
    # Since when it is to be cancelled: its end waits for no turn.
    Column("urgent_at", _time),
    UniqueConstraint("task_id", name="tasks_task_id_key"),
    postgresql_with={
        "fillfactor": 70,
        "autovacuum_vacuum_scale_factor": 0,
        "autovacuum_vacuum_threshold": 5000,
    },
)

Index(
    "tasks_ready",
    tasks.c.tenant,
    tasks.c.priority,
    tasks.c.run_at,
    postgresql_where=text("status = 'ready'"),
)
# A wait without a time of its own has the time at which the task's limits end it; `infinity` is
# only what came to its end, or what is set aside.
Index(
    "tasks_timers",
    tasks.c.run_at,
    postgresql_where=text("status = 'waiting' AND run_at < 'infinity'"),
)
Index(
    "tasks_looping",
    tasks.c.claims,
    postgresql_where=text("status IN ('ready', 'waiting') AND claims > 0"),
)
# Of the statements of release 0.1.0 alone: it goes when no worker of that release is left.
Index(
    "tasks_runnable",
    tasks.c.priority,
    tasks.c.run_at,
    postgresql_where=text("status IN ('ready', 'waiting') AND run_at < 'infinity'"),
)
# Empty, or something is wrong: the invariant `no_wake_up` looks for it.
Index(
    "tasks_without_wake_up",
    tasks.c.id,
    postgresql_where=text("status IN ('ready', 'waiting') AND run_at = 'infinity'"),
)
Index(
    "tasks_urgent",
    tasks.c.urgent_at,
    postgresql_where=text("status = 'ready' AND urgent_at IS NOT NULL"),
)
Index(
    "tasks_deadline",
    tasks.c.deadline,
    postgresql_where=text("status = 'ready' AND deadline IS NOT NULL"),
)
Index("tasks_running", tasks.c.owner, postgresql_where=text("status = 'running'"))
Index("tasks_parked", tasks.c.id, postgresql_where=text("parked_for IS NOT NULL"))
Index("tasks_expected", tasks.c.run_at, postgresql_where=text("status = 'expected'"))

steps = Table(
    "steps",
    metadata,
    Column("task", BigInteger, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("body", JSONB, nullable=False),
    Column("change", JSONB),
    Column("epoch", BigInteger, nullable=False),
    Column("at", _time, nullable=False, server_default=_now),
    PrimaryKeyConstraint("task", "seq", name="steps_pkey"),
    postgresql_partition_by="RANGE (task)",
)

inbox = Table(
    "inbox",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("task", BigInteger, nullable=False),
    Column("event_type", Text, nullable=False),
    Column("event_id", Text),
    Column("payload", JSONB, nullable=False),
    Column("step", Integer),
    Column("call", Integer),
    Column("seq", Integer),
    Column("source", Text, nullable=False),
    Column("key", LargeBinary),
    Column("value", LargeBinary),
    Column("headers", JSONB),
    Column("received_at", _time, nullable=False, server_default=_now),
)
# Not only of what is unread: so marking a message as read changes no index.
Index("inbox_task", inbox.c.task)
Index(
    "inbox_event_id",
    inbox.c.task,
    inbox.c.event_id,
    unique=True,
    postgresql_where=text("event_id IS NOT NULL"),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("task", BigInteger),
    Column("seq", Integer),
    Column("topic", Text),
    Column("key", LargeBinary),
    Column("value", LargeBinary),
    Column("headers", JSONB),
    postgresql_with={"autovacuum_vacuum_scale_factor": 0, "autovacuum_vacuum_threshold": 5000},
)

# Only of letters: updates are found by their ids, and this costs them nothing.
Index("outbox_topic", outbox.c.topic, outbox.c.id, postgresql_where=text("topic IS NOT NULL"))

# Rows of the outbox that Kafka refused, kept under their ids until they are sent again.
outbox_refused = Table(
    "outbox_refused",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("task", BigInteger),
    Column("seq", Integer),
    Column("topic", Text),
    Column("key", LargeBinary),
    Column("value", LargeBinary),
    Column("headers", JSONB),
    # The topic that refused it: `topic` is null where the row is a step's update.
    Column("refused_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", _time, nullable=False, server_default=_now),
)

kafka_positions = Table(
    "kafka_positions",
    metadata,
    Column("cluster_id", Text, nullable=False),
    Column("topic", Text, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("next_offset", BigInteger, nullable=False),
    Column("updated_at", _time, nullable=False, server_default=_now),
    Column("topic_id", Text),
    # Where the last reader began and who it was (null: it left well); and how many readers died
    # while they read what is at `placed_offset`, with its messages fetched or before.
    Column("placed_offset", BigInteger),
    Column("placed_by", BigInteger),
    Column("crashes", SmallInteger, nullable=False, server_default="0"),
    Column("is_fetched", Boolean, nullable=False, server_default=text("false")),
    PrimaryKeyConstraint("cluster_id", "topic", "partition", name="kafka_positions_pkey"),
)

workers = Table(
    "workers",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("name", Text, nullable=False),
    Column("started_at", _time, nullable=False, server_default=_now),
    Column("heartbeat_at", _time, nullable=False, server_default=_now),
    Column("tasks", Integer),
    Column("room", Integer),
    # Which partitions it reads; NULL where its release does not say.
    Column("intake", JSONB),
    Column("intake_at", _time),
    UniqueConstraint("name", name="workers_name_key"),
)

# One row, made with the table: what tells this database from those of other services.
service = Table(
    "service",
    metadata,
    Column("id", UUID, nullable=False),
    PrimaryKeyConstraint("id", name="service_pkey"),
)

leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("owner", BigInteger),
    Column("epoch", BigInteger, nullable=False, server_default="0"),
)

agents = Table(
    "agents",
    metadata,
    Column("id", Text, nullable=False),
    Column("tenant", Text, nullable=False, server_default="default"),
    Column("declaration", JSONB, nullable=False),
    Column("enabled", Boolean, nullable=False, server_default=text("true")),
    Column("created_at", _time, nullable=False, server_default=_now),
    Column("updated_at", _time, nullable=False, server_default=_now),
    PrimaryKeyConstraint("tenant", "id", name="agents_pkey"),
)

# What an operator put on hold: an agent or a model, by the name that calls are parked for.
pauses = Table(
    "pauses",
    metadata,
    Column("target", Text, primary_key=True),
    Column("by", Text, nullable=False),
    Column("reason", Text, nullable=False, server_default=""),
    Column("at", _time, nullable=False, server_default=_now),
)

# What each worker thinks of those whom it calls. For people: nothing is decided by it.
agent_states = Table(
    "agent_states",
    metadata,
    Column("worker", BigInteger, nullable=False),
    Column("target", Text, nullable=False),
    Column("state", JSONB, nullable=False),
    Column("updated_at", _time, nullable=False, server_default=_now),
    PrimaryKeyConstraint("worker", "target", name="agent_states_pkey"),
)

# What came again with other content under a known id, and was dropped: how many, and the last one.
other_contents = Table(
    "other_contents",
    metadata,
    Column("topic", Text, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("task_id", Text, nullable=False),
    Column("event_id", Text),
    Column("source", Text, nullable=False),
    Column("kept", Text, nullable=False),
    Column("at", _time, nullable=False, server_default=_now),
    PrimaryKeyConstraint("topic", name="other_contents_pkey"),
)

# How often a dead letter was sent again, by the id of the first of its kin (`bus.letters`).
dead_letter_replays = Table(
    "dead_letter_replays",
    metadata,
    Column("origin", Text, primary_key=True),
    Column("replays", Integer, nullable=False),
    Column("at", _time, nullable=False, server_default=_now),
)
