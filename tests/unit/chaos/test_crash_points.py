"""The places at which a worker can be made to die are there, and are enough."""

import importlib
import inspect
from typing import Any

import pytest

from chaos.crash_points import POINTS, SEAMS, Seam, point


def test_there_are_at_least_25_crash_points_with_names_of_their_own() -> None:
    assert len({p.name for p in POINTS}) == len(POINTS) >= 25


@pytest.mark.parametrize("seam", SEAMS, ids=lambda seam: seam.name)
def test_the_product_has_the_seam(seam: Seam) -> None:
    found: Any = importlib.import_module(seam.module)
    for part in seam.attribute.split("."):
        found = getattr(found, part)
    assert inspect.iscoroutinefunction(found)


def test_a_name_that_is_no_point_is_refused_with_those_that_are() -> None:
    with pytest.raises(ValueError, match="before: T3 a decision"):
        point("before: breakfast")
