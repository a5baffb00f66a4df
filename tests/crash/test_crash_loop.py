"""A task whose workers all die is set aside, and its dead letter sends it back to work."""

import pytest_asyncio

from tests.crash.conftest import FIELDS, WORDS, Office
from tests.fakes.bus import until
from tests.fakes.llm import HANG
from tests.integration.cli.command import told

DEATHS = 5
"""As many claims without a step as a task is given."""


@pytest_asyncio.fixture(loop_scope="session")
async def set_aside(office: Office) -> Office:
    """Every worker that took the task was killed while the model thought about its first turn."""
    office.llm.will("loop", *[HANG] * DEATHS)
    await office.observer.task("loop", WORDS, *FIELDS)
    for death in range(DEATHS):
        # Under one name: what the last one left is runnable at once, not when its lease is over.
        worker = office.worker("same")
        await worker.launch()
        await office.llm.wait_for_prompts(death + 1, task_id="loop", seconds=60)
        await worker.kill()
    await office.worker("same").launch()
    await office.observer.reached("loop", "quarantined", seconds=90)
    return office


async def test_a_task_that_was_set_aside_goes_back_to_work_from_its_letter_and_completes(
    set_aside: Office,
) -> None:
    observer, environ = set_aside.observer, set_aside.service.environ()
    await until(lambda: bool(observer.letters), what="a dead letter")
    (letter,) = await told(environ, "dead-letters", "list", "--reason", "crash_loop")
    assert letter["task_id"] == "loop"
    assert len(set_aside.llm.of("loop")) == DEATHS, "it is tried no more"

    replayed = await told(environ, "dead-letters", "replay", letter["id"])

    assert replayed == {"sent": [letter["id"]], "left": 0}
    await set_aside.check("loop")
    kinds = await observer.kinds("loop")
    assert kinds[:4] == ["accepted", "failed", "retried", "decision"]
    assert kinds[-1] == "completed"
    assert len(await told(environ, "dead-letters", "list")) == 1
