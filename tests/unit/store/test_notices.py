"""A notice is a hint: that it can't be sent ends nothing."""

from collections.abc import Sequence
from typing import Any

from orchestrator.domain.errors import StoreRejected
from orchestrator.store.database import Database, DatabaseOptions, Row
from orchestrator.store.notices import Notice, Notices


class Full(Database):
    """A server whose queue of notices is full: someone listens and reads nothing."""

    asked = 0

    async def fetch(self, sql: str, *args: Any) -> Sequence[Row]:
        self.asked += 1
        raise StoreRejected("too many notifications in the NOTIFY queue")


async def test_a_full_queue_of_notices_ends_no_worker() -> None:
    database = Full(DatabaseOptions(url="postgresql://127.0.0.1/nowhere"))
    notices = Notices(database, heard=lambda _: None)
    notices.flag(Notice.CONTROL)
    await notices.flush()
    assert database.asked == 1
