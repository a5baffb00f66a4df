"""A worker among the others: it never takes itself for another of its name."""

from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.domain.errors import StoreUnavailable
from orchestrator.domain.ids import WorkerId
from orchestrator.engine.clock import Clock
from orchestrator.engine.lease import Lease
from orchestrator.engine.membership import Membership, NameTaken
from orchestrator.engine.options import EngineOptions


class Members:
    """The table of workers, whose answers may get lost."""

    def __init__(self) -> None:
        self.names: dict[WorkerId, str] = {}
        self.loses_answers = False
        self._last = 0

    async def register(self, name: str) -> WorkerId:
        self.names = {id_: other for id_, other in self.names.items() if other != name}
        self._last += 1
        self.names[WorkerId(self._last)] = name
        if self.loses_answers:
            raise StoreUnavailable("the answer got lost")
        return WorkerId(self._last)

    async def heartbeat(self, worker: WorkerId, *, tasks: int, room: int) -> datetime | None:
        assert (tasks, room) == (0, 0)
        return datetime.now(UTC) if worker in self.names else None

    async def has_namesake(self, name: str, worker: WorkerId) -> bool:
        return any(other == name and id_ != worker for id_, other in self.names.items())

    async def leave(self, worker: WorkerId) -> None:
        self.names.pop(worker, None)


async def nothing() -> None:
    """There are no tasks to compare."""


def member(members: Members) -> Membership:
    clock = Clock()
    return Membership(
        members,
        EngineOptions(worker_name="w"),
        lease=Lease(timedelta(seconds=5), seconds=clock.seconds),
        clock=clock,
        compare=nothing,
        held=lambda: (0, 0),
    )


async def test_a_new_life_of_which_the_answer_got_lost_is_no_namesake() -> None:
    members = Members()
    mine = member(members)
    await mine.join()
    members.names.clear()  # given up by the others
    members.loses_answers = True
    with pytest.raises(StoreUnavailable):
        await mine.beat()
    members.loses_answers = False

    await mine.beat()

    assert members.names == {mine.id: "w"}


async def test_another_of_its_name_ends_it() -> None:
    members = Members()
    mine = member(members)
    await mine.join()
    await members.register("w")

    with pytest.raises(NameTaken, match="another worker runs under the name 'w'"):
        await mine.beat()
