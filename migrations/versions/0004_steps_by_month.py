"""The journal in partitions by month, so that old months go as whole tables.

The key of `steps` has to stay (task, seq), and a task's steps have to stay together: so it is the
task that carries the month. `tasks.id` begins with it, because its sequence is set ahead at the
first of each month; what was there before becomes the oldest partition, without a copy.

Revision: 0004
Follows: 0003
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# Ids of one month: 202611000000000000 and up.
STEPS_PARTITIONS = r"""
CREATE VIEW steps_partitions AS
SELECT c.relname::text AS name,
       coalesce(substring(b.bound FROM 'FROM \(''?(\d+)''?\)')::bigint, 0) AS first_task,
       substring(b.bound FROM 'TO \(''?(\d+)''?\)')::bigint AS end_task
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid,
     LATERAL (SELECT pg_get_expr(c.relpartbound, c.oid) AS bound) b
WHERE i.inhparent = 'steps'::regclass
"""

# Run by whoever owns the tables: workers may be logged in as a role that can't create any.
BEGIN_STEPS_MONTH = """
CREATE FUNCTION begin_steps_month() RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
    month timestamp := date_trunc('month', now() AT TIME ZONE 'UTC');
    first_task bigint := to_char(month, 'YYYYMM')::bigint * 1000000000000;
    end_task bigint := to_char(month + interval '1 month', 'YYYYMM')::bigint * 1000000000000;
    part text := 'steps_' || to_char(month, 'YYYYMM');
    ids regclass := pg_get_serial_sequence('tasks', 'id');
BEGIN
    IF pg_sequence_last_value(ids) >= first_task THEN
        RETURN false;
    END IF;
    LOCK TABLE ONLY steps IN SHARE UPDATE EXCLUSIVE MODE;
    IF pg_sequence_last_value(ids) >= first_task THEN
        RETURN false;  -- another did it meanwhile
    END IF;
    IF to_regclass(part) IS NULL THEN
        -- Attached, not created as a partition: that would stop all who use the journal.
        EXECUTE format('CREATE TABLE %I (LIKE steps INCLUDING DEFAULTS)', part);
        EXECUTE format('ALTER TABLE steps ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)',
                       part, first_task, end_task);
    END IF;
    PERFORM setval(ids, first_task);
    RETURN true;
END
$$
"""

# Only what no task can need, whoever asks.
DROP_STEPS_PARTITION = """
CREATE FUNCTION drop_steps_partition(part text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
    bounds steps_partitions;
BEGIN
    SELECT * INTO bounds FROM steps_partitions WHERE name = part
       AND end_task <= pg_sequence_last_value(pg_get_serial_sequence('tasks', 'id')::regclass);
    IF bounds IS NULL OR EXISTS (
        SELECT FROM tasks WHERE id >= bounds.first_task AND id < bounds.end_task
    ) THEN
        RETURN false;
    END IF;
    EXECUTE format('DROP TABLE %I', part);
    RETURN true;
END
$$
"""

# The right to read or write the old table is the right to read or write the new one.
COPY_GRANTS = """
DO $$ DECLARE g record; BEGIN
    FOR g IN SELECT a.privilege_type AS what, a.grantee, r.rolname
             FROM pg_class c, aclexplode(c.relacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee
             WHERE c.oid = '{source}'::regclass AND a.grantee <> c.relowner LOOP
        EXECUTE format('GRANT %s ON steps TO %s', g.what,
                       CASE WHEN g.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(g.rolname) END);
    END LOOP;
END $$
"""

VIEWS = """
SELECT DISTINCT v.oid::regclass::text AS name, pg_get_viewdef(v.oid) AS body
FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid JOIN pg_class v ON v.oid = r.ev_class
WHERE d.refobjid = 'steps'::regclass AND v.relkind = 'v'
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    # In the order of the statements, the tasks first, or the two wait for each other.
    op.execute("LOCK TABLE tasks, steps IN ACCESS EXCLUSIVE MODE")
    views = op.get_bind().execute(sa.text(VIEWS)).all()
    op.execute("ALTER TABLE steps RENAME TO steps_before")
    op.execute("ALTER INDEX steps_pkey RENAME TO steps_before_pkey")
    op.execute(
        "CREATE TABLE steps (LIKE steps_before INCLUDING DEFAULTS) PARTITION BY RANGE (task)"
    )
    op.execute("ALTER TABLE steps ADD CONSTRAINT steps_pkey PRIMARY KEY (task, seq)")
    op.execute(COPY_GRANTS.format(source="steps_before"))
    _point_views_at_steps(views)
    first = "to_char(now() AT TIME ZONE 'UTC', 'YYYYMM')::bigint * 1000000000000"
    end = op.get_bind().execute(sa.text(f"SELECT {first}")).scalar_one()
    op.execute(
        f"ALTER TABLE steps ATTACH PARTITION steps_before FOR VALUES FROM (MINVALUE) TO ({end})"
    )
    op.execute(STEPS_PARTITIONS)
    schema = op.get_bind().execute(sa.text("SELECT quote_ident(current_schema())")).scalar_one()
    op.execute(BEGIN_STEPS_MONTH.format(schema=schema))
    op.execute(DROP_STEPS_PARTITION.format(schema=schema))
    op.execute("SELECT begin_steps_month()")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("LOCK TABLE tasks, steps IN ACCESS EXCLUSIVE MODE")
    op.execute("DROP FUNCTION drop_steps_partition(text)")
    op.execute("DROP FUNCTION begin_steps_month()")
    op.execute("DROP VIEW steps_partitions")
    views = op.get_bind().execute(sa.text(VIEWS)).all()
    op.execute("ALTER TABLE steps RENAME TO steps_by_month")
    op.execute("ALTER INDEX steps_pkey RENAME TO steps_by_month_pkey")
    op.execute("CREATE TABLE steps (LIKE steps_by_month INCLUDING DEFAULTS)")
    op.execute("INSERT INTO steps SELECT * FROM steps_by_month")
    op.execute("ALTER TABLE steps ADD CONSTRAINT steps_pkey PRIMARY KEY (task, seq)")
    op.execute(COPY_GRANTS.format(source="steps_by_month"))
    _point_views_at_steps(views)
    op.execute("DROP TABLE steps_by_month")


def _point_views_at_steps(views: Sequence[sa.Row[Any]]) -> None:
    """A view keeps to the table that it was made for, also when that has another name."""
    for view in views:
        op.execute(f"CREATE OR REPLACE VIEW {view.name} AS {view.body}")
