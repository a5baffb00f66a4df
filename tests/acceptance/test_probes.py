"""What every process says about itself: probes and metrics."""

import json

from tests.acceptance.conftest import Office


async def test_a_working_worker_is_live_and_ready(office: Office) -> None:
    (worker,) = office.service.workers

    assert (await worker.get("/livez"))[0] == 200
    status, body = await worker.get("/readyz")

    assert status == 200
    assert json.loads(body)["checks"] == ["worker", "postgresql", "kafka", "publishing"]


async def test_metrics_count_what_was_done(office: Office) -> None:
    (worker,) = office.service.workers
    await office.observer.task("counted", "Register the customer ACME", "customer_id")
    await office.observer.told("counted", "task.completed")

    status, body = await worker.get("/metrics")

    assert status == 200
    lines = [line for line in body.splitlines() if not line.startswith("#")]
    finished = [line for line in lines if "finished" in line and "completed" in line]
    assert finished
    assert float(finished[0].split()[-1]) >= 1


async def test_log_lines_of_a_task_carry_its_id(office: Office) -> None:
    (worker,) = office.service.workers
    await office.observer.task("logged", "Register the customer ACME", "customer_id")
    await office.observer.told("logged", "task.completed")

    ended = [line for line in worker.says("task ended") if line["task_id"] == "logged"]

    assert [line["status"] for line in ended] == ["completed"]
