"""How long things are kept. The journal lies in partitions by month, and goes by the month.

`tasks.id` begins with the month in which the task came (202611…): its sequence is set ahead when a
month begins, once the month's partition is there. So nothing is ever refused: while nobody begins
the new month, new tasks are of the old one.
"""

from orchestrator.store.database import Database

BEGIN_MONTH = "SELECT begin_steps_month() AS begun"

DROP = "SELECT drop_steps_partition($1) AS dropped"


async def begin_month(database: Database) -> bool:
    """Makes the partition of the month that has begun; false where it was there already."""
    row = await database.fetch_one(BEGIN_MONTH)
    assert row is not None
    return bool(row["begun"])


async def drop_partition(database: Database, name: str) -> bool:
    """Drops a partition of the journal; false where a task is left that has its steps in it."""
    row = await database.fetch_one(DROP, name)
    assert row is not None
    return bool(row["dropped"])
