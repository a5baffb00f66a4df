"""Bars: of a class, and of the whole run."""

from dataclasses import replace

import orjson
import pytest

from chaos.fault import Bar
from chaos.report import NEEDED, as_json, as_page, as_table, from_json, line, whole
from chaos.round import Outcome

GOOD = Outcome(
    name="worker-killed",
    injected=dict(NEEDED),
    tasks=20_000,
    calls=30_000,
    resent=300,
    seconds=60.0,
    findings=(),
    measured={"take-over, s": (1.0, 9.9)},
    bars=(Bar(measure="take-over, s", at_most=10.0),),
)


def missed(outcome: Outcome) -> list[str]:
    return [text for text, holds in whole([outcome], is_full=True) if not holds]


def test_a_whole_run_that_did_enough_and_broke_nothing_holds() -> None:
    assert GOOD.holds
    assert missed(GOOD) == []


def test_a_violation_breaks_the_run() -> None:
    assert missed(replace(GOOD, findings=("I1 t: lost",))) == ["violations: 1 (0)"]


def test_a_value_above_its_bar_breaks_the_run_and_is_marked() -> None:
    slow = replace(GOOD, measured={"take-over, s": (1.0, 10.1)})

    assert not slow.holds
    assert len(missed(slow)) == 1
    assert "most 10.10 **broken**" in as_table([slow])


@pytest.mark.parametrize("measured", [{}, {"take-over, s": ()}, {"another, s": (1.0,)}])
def test_a_bar_that_was_not_measured_breaks_the_run_and_is_marked(
    measured: dict[str, tuple[float, ...]],
) -> None:
    unseen = replace(GOOD, measured=measured)

    assert unseen.broken == GOOD.bars
    assert not unseen.holds
    assert missed(unseen) == ["bars of classes that are broken: 1 (0)"]
    assert "take-over, s not measured **broken**" in as_table([unseen])
    assert line(unseen).startswith("    BROKEN: ")
    (told,) = orjson.loads(as_json([unseen]))
    assert [bar["holds"] for bar in told["bars"]] == [False]


def test_too_few_faults_tasks_or_too_many_calls_sent_again_break_the_run() -> None:
    few = replace(GOOD, injected={**NEEDED, "worker-frozen": 99}, tasks=19_999, resent=301)

    assert len(missed(few)) == 3


def test_calls_cut_at_crash_points_are_told_and_do_not_count_to_the_bar() -> None:
    cut = replace(GOOD, name="crash-points", injected={}, resent=3000)

    assert missed(replace(GOOD, resent=200)) == []
    bars = whole([replace(GOOD, resent=200), cut], is_full=True)
    assert bars[2][1]
    assert "0.67 % (≤ 1 %); with crash-points" in bars[2][0]
    assert "5.33 %" in bars[2][0]


def test_the_page_has_every_figure() -> None:
    page = as_page([GOOD], postgres="18.0")

    assert "calls sent again: 1.00 % (≤ 1 %)" in page
    assert "| worker-killed | SIGKILL of a random worker" in page
    assert "PostgreSQL 18.0" in page


def test_what_a_run_left_as_json_is_read_back_as_it_was() -> None:
    assert from_json(as_json([GOOD])) == [GOOD]


def test_the_page_names_the_classes_that_were_left_out() -> None:
    page = as_page([GOOD], postgres="18.0")
    assert "| take-over | not in these runs" in page
    assert "| worker-killed | not in these runs" not in page
