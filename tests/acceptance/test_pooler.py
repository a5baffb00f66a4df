"""A worker whose connections lead through PgBouncer."""

from tests.fixtures.pgbouncer import Pooled
from tests.fixtures.pgbouncer import pooled as pooled  # a fixture
from tests.fixtures.service import Service


async def test_behind_session_mode_a_task_is_completed(service: Service, pooled: Pooled) -> None:
    await service.agent("crm", needs=["name"], adds={"customer_id": "C-1"})
    async with pooled(service.place.database_url, mode="session") as url:
        worker = service.worker()
        worker.environ["DATABASE_URL"] = url
        await worker.start()
        await service.observer.task(
            "pooled", "Register the customer ACME", "customer_id", event_data={"name": "ACME"}
        )
        await service.observer.reached("pooled", "completed")
        assert await worker.stop() == 0


async def test_behind_transaction_mode_a_worker_ends_with_one_line(
    service: Service, pooled: Pooled
) -> None:
    async with pooled(service.place.database_url, mode="transaction") as url:
        worker = service.worker()
        worker.environ["DATABASE_URL"] = url
        await worker.launch()
        assert await worker.ended() == 2
    assert worker.text().splitlines()[-1].startswith("error: DATABASE_URL leads to a pooler that")
    assert "Traceback" not in worker.text()
