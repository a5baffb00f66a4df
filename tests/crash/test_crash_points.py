"""A worker killed at every boundary between Kafka and a first decision: no task ever vanishes."""

import asyncio
import signal
from pathlib import Path

from chaos import crashing_worker
from chaos.crash_points import POINTS, Point
from chaos.fleet import Fleet, running_forge
from tests.crash.conftest import FIELDS, WORDS, Office
from tests.fakes.invariants import check_positions

FIRST_STEPS = (
    "positions are read",
    "messages are read",
    "T1 messages and position",
    "a claimed task is loaded",
    "the model is asked",
    "T3 a decision",
)
"""What a message passes on its way from Kafka to its first decision."""
PATIENCE_SECONDS = 60.0


async def dies_at(office: Office, fleet: Fleet, at: Point, *, number: int) -> str:
    """Publishes a task for a worker that dies at this point; the task's id."""
    await office.observer.task(f"t{number}", WORDS, *FIELDS)
    told = {
        crashing_worker.CRASH_AT: at.name,
        # Of its own: nobody has to wait until Kafka takes the last one for dead.
        "KAFKA_GROUP_ID": f"{office.service.place.prefix}{number}",
    }
    worker = await fleet.launch(f"crash-{number}", **told)
    worker.dismissed = True
    async with asyncio.timeout(PATIENCE_SECONDS):
        status = await worker.ended
    assert status == -signal.SIGKILL, f"{at.name}: {worker.said().decode()[-2000:]}"
    return f"t{number}"


async def test_no_accepted_task_vanishes_wherever_the_crash_comes_before_its_first_step(
    office: Office, tmp_path: Path
) -> None:
    points = [point for point in POINTS if point.seam.name in FIRST_STEPS]
    assert len(points) == 2 * len(FIRST_STEPS)
    async with running_forge() as forge:
        fleet = Fleet(forge, environ=office.worker("last").environ, folder=tmp_path)
        fleet.entry = f"{crashing_worker.__name__}:main"
        tasks = [await dies_at(office, fleet, at, number=n) for n, at in enumerate(points)]
        await fleet.launch("last")
        await office.check(*tasks)
        await check_positions(office.observer)
        await fleet.close()
