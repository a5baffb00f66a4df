"""Runs the migrations on the connection that `orchestrator.store.migrations` opened."""

from typing import Any

from alembic import context

from orchestrator.store.tables import metadata


def is_declared(name: str | None, kind: str, _: Any) -> bool:
    """Not a partition: those of `steps` come and go with the months."""
    return kind != "table" or not (name or "").startswith("steps_")


connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    version_table=context.config.attributes["version_table"],
    compare_server_default=True,
    include_name=is_declared,
)
with context.begin_transaction():
    context.run_migrations()
