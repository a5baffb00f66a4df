"""PostgreSQL or Kafka killed or frozen in the middle: nothing is lost, nothing is done twice."""

import signal
import time

from tests.crash.conftest import Office
from tests.fakes.bus import until
from tests.fakes.invariants import check_positions
from tests.fixtures.servers import KafkaServer, PostgresServer

FROZEN_SECONDS = 5.0


async def test_postgresql_killed_in_the_middle_of_100_tasks(
    office: Office, postgres: PostgresServer
) -> None:
    worker = await office.worker("worker").start()
    tasks = await office.publish(100)
    await office.progress(20)

    await postgres.kill()
    await worker.will_say("unavailable")
    await postgres.start()

    await office.check(*tasks)
    await check_positions(office.observer)
    assert worker.process.running


async def test_postgresql_restarted_while_one_worker_drains_and_anothers_tasks_are_taken_over(
    office: Office, postgres: PostgresServer
) -> None:
    dead = await office.worker("dead").start()
    old = await office.worker("old", grace_seconds=5).start()
    tasks = await office.publish(100)
    await office.progress(20)

    await dead.kill()
    old.signal(signal.SIGTERM)
    await old.will_say("stopping: intake ends, calls may finish")
    await postgres.stop()
    await postgres.start()
    await office.worker("new").start()

    await office.check(*tasks)
    assert await old.ended() == 0
    await check_positions(office.observer)


async def test_postgresql_frozen_for_5_seconds_in_the_middle_of_100_tasks(
    office: Office, postgres: PostgresServer
) -> None:
    worker = await office.worker("worker").start()
    tasks = await office.publish(100)
    await office.progress(20)

    postgres.freeze()
    frozen_at = time.monotonic()
    await until(lambda: time.monotonic() - frozen_at > FROZEN_SECONDS, what="5 seconds")
    postgres.thaw()

    await office.check(*tasks)
    await check_positions(office.observer)
    assert worker.process.running


async def test_kafka_killed_in_the_middle_of_100_tasks(office: Office, kafka: KafkaServer) -> None:
    worker = await office.worker("worker").start()
    tasks = await office.publish(100)
    await office.progress(20)

    await kafka.kill()
    await worker.will_say("unavailable")
    await kafka.start()

    await office.check(*tasks)
    await until(worker.is_ready, what="readiness")
    await office.observer.task("next", "Register the customer ACME", "customer_id")
    await office.check(*tasks, "next")


async def test_kafka_frozen_in_the_middle_of_100_tasks(office: Office, kafka: KafkaServer) -> None:
    worker = await office.worker("worker").start()
    tasks = await office.publish(100)
    await office.progress(20)

    kafka.freeze()
    await worker.will_say("unavailable")
    kafka.thaw()

    await office.check(*tasks)
