"""The schema's version stands in a table of a name of its own: other programs use Alembic too.

A database that was made at this release or later has that table from its beginning, and nothing is
done here. Where an earlier release made it the table is renamed, and a view has its old name:
workers of that release read it when they start.

Revision: 0014
Follows: 0013
"""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

RENAME = """
DO $do$
DECLARE
    old regclass := to_regclass(quote_ident(current_schema()) || '.alembic_version');
    new regclass := to_regclass(quote_ident(current_schema()) || '.orchestrator_schema_version');
    g record;
BEGIN
    IF old IS NULL OR new IS NOT NULL THEN
        RETURN;
    END IF;
    ALTER TABLE alembic_version RENAME TO orchestrator_schema_version;
    -- An index's name is taken as well.
    ALTER INDEX IF EXISTS alembic_version_pkc RENAME TO orchestrator_schema_version_pkc;
    CREATE VIEW alembic_version AS SELECT version_num FROM orchestrator_schema_version;
    FOR g IN
        SELECT DISTINCT a.grantee FROM pg_class c, aclexplode(c.relacl) a
        WHERE c.oid = 'orchestrator_schema_version'::regclass AND a.privilege_type = 'SELECT'
    LOOP
        EXECUTE format('GRANT SELECT ON alembic_version TO %s',
                       CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END);
    END LOOP;
END
$do$
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(RENAME)


def downgrade() -> None:
    """The name stays: Alembic writes to that table when this returns."""
