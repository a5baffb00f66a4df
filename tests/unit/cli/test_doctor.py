import pytest

from orchestrator.cli.doctor import clock_finding


@pytest.mark.parametrize(("skew", "state"), [(0.2, "ok"), (-4.9, "ok"), (5.1, "warning")])
def test_a_clock_that_is_far_off_is_told(skew: float, state: str) -> None:
    assert clock_finding(skew).state == state


def test_the_direction_of_the_skew_is_said() -> None:
    assert "61.0 s behind" in clock_finding(-61.0).says
