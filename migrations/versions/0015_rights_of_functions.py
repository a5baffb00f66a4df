"""Functions that run with their owner's rights are for the roles that write the journal.

PostgreSQL lets every role execute a new function; a role that may only read could drop partitions.

Revision: 0015
Follows: 0014
"""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

FUNCTIONS = ("begin_steps_month()", "drop_steps_partition(text)")

# Who may write steps, whoever granted it: the role of the workers keeps what it needs.
REVOKE = """
DO $$ DECLARE writer record; BEGIN
    REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC;
    FOR writer IN SELECT DISTINCT a.grantee, r.rolname
                  FROM pg_class c, aclexplode(c.relacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee
                  WHERE c.oid = 'steps'::regclass AND a.privilege_type = 'INSERT'
                    AND a.grantee <> c.relowner LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION {function} TO %s',
            CASE WHEN writer.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(writer.rolname) END);
    END LOOP;
END $$
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for function in FUNCTIONS:
        op.execute(REVOKE.format(function=function))


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for function in FUNCTIONS:
        op.execute(f"GRANT EXECUTE ON FUNCTION {function} TO PUBLIC")
