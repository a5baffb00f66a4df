"""Kafka or PostgreSQL not there: waited for at the start, later survived, told in few lines."""

import time

from tests.fakes.agent import Behaviour
from tests.fakes.bus import until
from tests.fixtures.servers import KafkaServer, PostgresServer
from tests.fixtures.service import Service

REGISTER = "Register the customer ACME"
CUSTOMER = {"customer_id": "C-1"}
LINES_A_SECOND = 10


async def test_a_worker_waits_for_kafka_at_its_start_and_says_so(
    service: Service, kafka: KafkaServer
) -> None:
    await kafka.stop()
    worker = service.worker()
    await worker.launch()
    said = await worker.will_say("waiting")
    assert said["waits_for"] == "Kafka"
    assert (await worker.get("/livez"))[0] == 200
    assert (await worker.get("/readyz"))[0] == 503

    await kafka.start()

    await until(worker.is_ready, what="readiness")


async def test_a_worker_waits_for_postgresql_at_its_start_and_says_so(
    service: Service, postgres: PostgresServer
) -> None:
    await postgres.stop()
    worker = service.worker()
    await worker.launch()
    said = await worker.will_say("waiting")
    assert said["waits_for"] == "PostgreSQL"
    assert (await worker.get("/livez"))[0] == 200

    await postgres.start()

    await until(worker.is_ready, what="readiness")


async def test_when_kafka_goes_away_tasks_go_on_and_nothing_is_lost(
    service: Service, kafka: KafkaServer
) -> None:
    crm = await service.agent("crm", needs=["name"], adds=CUSTOMER)
    crm.will(Behaviour(kind="hang"))
    worker = await service.worker().start()
    await service.observer.task("under-way", REGISTER, "customer_id")
    await crm.wait_for_sends(1)

    await kafka.stop()
    await worker.will_say("unavailable")
    crm.release()

    await service.observer.reached("under-way", "completed")
    assert (await worker.get("/livez"))[0] == 200
    await kafka.start()
    await service.observer.told("under-way", "task.completed", seconds=40)
    await service.observer.task("afterwards", REGISTER, "customer_id")
    await service.observer.reached("afterwards", "completed", seconds=40)


async def test_while_kafka_is_away_the_log_stays_readable_and_the_worker_is_not_ready(
    service: Service, kafka: KafkaServer
) -> None:
    worker = await service.worker().start()
    await kafka.stop()
    began = time.monotonic()
    said = await worker.will_say("unavailable")
    assert said["what"] == "Kafka"

    await until(lambda: _is_unready(service), what="readiness withdrawn")

    seconds = time.monotonic() - began
    assert len(worker.lines()) <= 20 + LINES_A_SECOND * seconds
    assert not [line for line in worker.text().splitlines() if "Traceback" in line]
    await kafka.start()
    await until(worker.is_ready, what="readiness")


async def _is_unready(service: Service) -> bool:
    status, _ = await service.workers[0].get("/readyz")
    return status == 503
