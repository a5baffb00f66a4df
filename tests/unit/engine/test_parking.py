"""What is told to operators about agents: it costs little, and what can't be told ends nothing."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from orchestrator.agents.targets import Targets
from orchestrator.domain.errors import StoreRejected
from orchestrator.domain.ids import WorkerId
from orchestrator.domain.json import JsonObject
from orchestrator.engine.clock import Clock
from orchestrator.engine.parking import Parking
from orchestrator.store.targets import PauseRow
from tests.fakes.bus import until
from tests.fakes.scripted_caller import agent


class Told:
    """A store that remembers, or refuses, what it is told."""

    def __init__(self) -> None:
        self.states: list[Mapping[str, JsonObject]] = []
        self.refuses = False
        self.asks = 0

    async def pauses(self) -> list[PauseRow]:
        return []

    async def wake_parked(self, names: Sequence[str], *, limit: int) -> int:
        return 0

    async def put_agent_states(self, worker: WorkerId, states: Mapping[str, JsonObject]) -> None:
        self.asks += 1
        if self.refuses:
            raise StoreRejected("unsupported Unicode escape sequence")
        self.states.append(states)


def parking(store: Told, targets: Targets) -> Parking:
    return Parking(store, targets, clock=Clock(), worker=lambda: WorkerId(1), woken=lambda: None)


async def test_a_look_at_thousands_of_targets_that_did_not_change_takes_no_time() -> None:
    store, targets = Told(), Targets()
    for number in range(3000):
        targets.agent(agent(f"agent-{number}"))
    parked = parking(store, targets)
    await parked.run_once()
    began = time.thread_time()
    await parked.run_once()
    assert time.thread_time() - began < 0.5
    assert [len(states) for states in store.states] == [3000]


async def test_states_that_are_refused_end_no_worker() -> None:
    store, targets = Told(), Targets()
    targets.agent(agent("crm"))
    store.refuses = True
    parked = parking(store, targets)
    running = asyncio.create_task(parked.run())

    def looks_again() -> bool:
        parked.hear()
        return store.asks >= 2

    await until(looks_again)
    store.refuses = False
    await until(lambda: bool(store.states))
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
