"""How a worker ends: gently at the first signal, at once at the second; nothing is sent again."""

import asyncio
import signal
import time

from tests.fakes.agent import Behaviour, ok
from tests.fakes.bus import until
from tests.fakes.worker_process import WorkerProcess
from tests.fixtures.servers import PostgresServer
from tests.fixtures.service import Service

REGISTER = "Register the customer ACME"
CUSTOMER = {"customer_id": "C-1"}


async def test_sigterm_drains_and_exits_0_and_nothing_is_sent_again(service: Service) -> None:
    slow = Behaviour(body=ok(CUSTOMER).body, delay_seconds=0.3)
    crm = await service.agent("crm", needs=["name"], adds=CUSTOMER, default=slow)
    worker = await service.worker("a", concurrency=10).start()
    tasks = [f"t{number}" for number in range(40)]
    await asyncio.gather(*(service.observer.task(t, REGISTER, "customer_id") for t in tasks))
    await crm.wait_for_sends(5)

    assert await worker.stop() == 0

    statuses = set((await service.observer.statuses()).values())
    assert statuses == {"completed", "ready"}
    assert await service.observer.rows("SELECT id FROM workers") == []
    await service.worker("b").start()
    await service.observer.completed(*tasks)
    assert set(crm.sends.values()) == {1}
    assert set(service.llm.asked.values()) == {1}


async def test_what_sigterm_left_to_say_was_said(service: Service) -> None:
    await service.agent("crm", needs=["name"], adds=CUSTOMER)
    worker = await service.worker().start()
    for number in range(20):
        await service.observer.task(f"t{number}", REGISTER, "customer_id")
    await service.observer.reached("t0", "completed")

    assert await worker.stop() == 0

    rows = await service.observer.rows("SELECT count(*) AS rows FROM outbox")
    assert rows[0]["rows"] == 0


async def test_when_the_grace_is_over_calls_are_interrupted_and_their_tasks_given_back(
    service: Service,
) -> None:
    crm = await service.agent("crm", needs=["name"], adds=CUSTOMER)
    crm.will(Behaviour(kind="hang"))
    worker = await service.worker(grace_seconds=0.5).start()
    await service.observer.task("hangs", REGISTER, "customer_id")
    await crm.wait_for_sends(1)

    assert await worker.stop() == 0

    row = await service.observer.row("hangs")
    assert (row["status"], row["owner"]) == ("ready", None)
    assert not [line for line in worker.lines() if line["level"] == "error"]
    await service.worker("b").start()
    await service.observer.reached("hangs", "completed")
    assert crm.effects == {"hangs/2/1": 1}


async def test_a_second_signal_skips_the_grace(service: Service) -> None:
    crm = await service.agent("crm", needs=["name"], adds=CUSTOMER)
    crm.will(Behaviour(kind="hang"))
    worker = await service.worker(grace_seconds=60).start()
    await service.observer.task("hangs", REGISTER, "customer_id")
    await crm.wait_for_sends(1)
    began = time.monotonic()
    worker.signal(signal.SIGTERM)
    await worker.will_say("stopping: intake ends, calls may finish")

    await until(lambda: _forced_by_another(worker), what="the end of the grace")

    assert await worker.ended() == 1
    assert time.monotonic() - began < 15


def _forced_by_another(worker: WorkerProcess) -> bool:
    """Signals until it has its effect: one too soon after the first is taken for the same."""
    said = worker.says("stopped at once; tasks under way go on elsewhere after the lease")
    if not said:
        worker.signal(signal.SIGTERM)
    return bool(said)


async def test_a_worker_that_waits_for_its_servers_ends_at_a_signal(service: Service) -> None:
    nobody = service.worker()
    nobody.environ["KAFKA_BOOTSTRAP_SERVERS"] = "127.0.0.1:1"
    await nobody.launch()
    await nobody.will_say("waiting")

    assert await nobody.stop() == 0


async def test_a_worker_that_ends_while_postgresql_is_away_says_so_and_exits_0(
    service: Service, postgres: PostgresServer
) -> None:
    worker = await service.worker().start()
    await postgres.kill()
    try:
        assert await worker.stop() == 0
    finally:
        await postgres.start()
    assert worker.says("the end could not be told")


async def test_a_worker_that_ends_while_postgresql_does_not_answer_exits_0_in_time(
    service: Service, postgres: PostgresServer
) -> None:
    crm = await service.agent("crm", needs=["name"], adds=CUSTOMER)
    crm.will(Behaviour(kind="hang"))
    worker = await service.worker(grace_seconds=2).start()
    await service.observer.task("under-way", REGISTER, "customer_id")
    await crm.wait_for_sends(1)
    postgres.freeze()
    try:
        assert await worker.stop() == 0
    finally:
        postgres.thaw()
