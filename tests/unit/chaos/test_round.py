"""What a run says that it injected."""

import random
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, cast

from chaos.arena import Arena, NothingToBreak
from chaos.fault import Fault, Times
from chaos.round import MOST_TRIES, inject_all


@dataclass
class Place:
    """As much of an arena as a fault without a target needs."""

    dice: random.Random = field(default_factory=lambda: random.Random(1))
    findings: list[str] = field(default_factory=list)

    def lock(self, _: str | None) -> AbstractAsyncContextManager[None]:
        return nullcontext()


class Shy:
    """Finds something to break each time in so many."""

    def __init__(self, *, one_in: int) -> None:
        self.tries = 0
        self._one_in = one_in

    async def __call__(self, _: Arena) -> None:
        self.tries += 1
        if self.tries % self._one_in:
            raise NothingToBreak


async def injected(shy: Shy, *, times: int) -> int:
    fault = Fault(
        name="shy",
        injected="now and then",
        inject=shy,
        times=Times(alone=times, mixed=0),
        pause_seconds=(0.0, 0.0),
    )
    return await inject_all(cast(Any, Place()), fault, times)


async def test_a_fault_that_finds_nothing_to_break_is_tried_again() -> None:
    shy = Shy(one_in=3)

    assert (await injected(shy, times=4), shy.tries) == (4, 12)


async def test_only_what_was_injected_is_counted() -> None:
    shy = Shy(one_in=2 * MOST_TRIES)

    assert (await injected(shy, times=4), shy.tries) == (2, 4 * MOST_TRIES)
