"""Many tasks, two workers, both of them broken in the middle: nobody can tell from the outcome."""

from tests.crash.conftest import FIELDS, WORDS
from tests.fakes.agent_process import AgentProcess
from tests.fakes.bus import until
from tests.fakes.invariants import check_all, check_positions
from tests.fixtures.service import Service

TASKS = [f"t{number}" for number in range(500)]
OUTPUT = {"customer_id": "C-1", "account_number": "A-1"}
SHORT = {"lease_seconds": 2, "concurrency": 40, "partitions": 6}


async def completed(service: Service) -> int:
    return list((await service.observer.statuses()).values()).count("completed")


async def many(service: Service, count: int) -> None:
    async def enough() -> bool:
        return await completed(service) >= count

    await until(enough, seconds=60, what=f"{count} completed tasks")


async def test_500_tasks_over_6_partitions_survive_a_killed_and_a_frozen_worker(
    service: Service,
) -> None:
    agents = AgentProcess(service.place.folder, output=OUTPUT, delay_seconds=0.03)
    service.stack.push_async_callback(agents.stop)
    await agents.start()
    service.declare("crm", f"{agents.url}/crm", needs=["name"], adds=FIELDS[:1])
    service.declare("accounts", f"{agents.url}/accounts", needs=FIELDS[:1], adds=FIELDS[1:])
    first, second = service.worker("first", **SHORT), service.worker("second", **SHORT)
    await first.start()
    await second.start()
    await publish_all(service)

    await many(service, 100)
    await first.kill()
    await service.worker("third", **SHORT).launch()
    await many(service, 220)
    second.freeze()
    await service.given_up("second")
    second.thaw()

    await check(service, agents)


async def publish_all(service: Service) -> None:
    for task in TASKS:
        await service.observer.task(task, WORDS, *FIELDS)


async def check(service: Service, agents: AgentProcess) -> None:
    await service.observer.completed(*TASKS, seconds=60)
    for task in TASKS:
        await service.observer.told(task, "task.completed", seconds=30)
    counts = await agents.counts()
    assert len(counts["effects"]) == 2 * len(TASKS)
    taken_over = await service.observer.rows("SELECT id FROM tasks WHERE epoch > 1")
    assert taken_over, "nothing was under way when the workers were broken"
    await check_positions(service.observer)
    await check_all(
        service.observer,
        prompts=service.llm.prompts,
        effects=counts["effects"],
        epochs=counts["epochs"],
    )
