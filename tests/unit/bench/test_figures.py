import math

import pytest

from bench.figures import (
    LEAN,
    PRODUCT,
    STOCK,
    Figures,
    Round,
    histogram_percentile,
    percentile,
)


def rounds(side: str, *rates: float) -> list[Round]:
    return [
        Round(side=side, tasks=100, seconds=100 / rate, cpu_seconds={"loop": 0.5}) for rate in rates
    ]


def figures(*, product: float = 90, first_byte_ms: float = 10) -> Figures:
    return Figures(
        machine={},
        rounds=(*rounds(PRODUCT, product), *rounds(LEAN, 100), *rounds(STOCK, 40)),
        first_byte_ms=(first_byte_ms,),
        bare_first_byte_ms=(2.0,),
    )


def test_a_ratio_compares_neighbouring_rounds_and_takes_the_median() -> None:
    each = (*rounds(PRODUCT, 80, 45, 90), *rounds(LEAN, 100, 50, 100), *rounds(STOCK, 40, 20, 40))
    measured = Figures(machine={}, rounds=each, first_byte_ms=(1,), bare_first_byte_ms=(1,))
    assert measured.ratios(LEAN) == pytest.approx([0.8, 0.9, 0.9])
    assert measured.ratio(LEAN) == pytest.approx(0.9)


def test_both_bars_hold_for_good_figures() -> None:
    assert [holds for _, holds in figures().bars()] == [True, True]


def test_a_slow_product_misses_the_bar_of_throughput() -> None:
    assert [holds for _, holds in figures(product=70).bars()] == [False, True]


def test_a_late_first_byte_misses_the_bar_of_latency() -> None:
    assert [holds for _, holds in figures(first_byte_ms=51).bars()] == [True, False]


def test_cpu_of_a_process_that_a_side_does_not_have_is_unknown() -> None:
    measured = figures()
    assert measured.cpu_ms(LEAN, "loop") == pytest.approx(5)
    assert math.isnan(measured.cpu_ms(LEAN, "kafka"))


def test_a_percentile_is_one_of_the_values() -> None:
    values = [float(number) for number in range(1, 101)]
    assert percentile(values, 50) == 50
    assert percentile(values, 99) == 99
    assert percentile([7.0], 99) == 7


def test_a_histograms_percentile_lies_within_its_bucket() -> None:
    counts = {0.001: 0.0, 0.002: 50.0, 0.005: 100.0, math.inf: 100.0}
    assert histogram_percentile(counts, 50) == pytest.approx(0.002)
    assert histogram_percentile(counts, 75) == pytest.approx(0.0035)


def test_what_lies_beyond_the_last_bound_counts_as_that_bound() -> None:
    assert histogram_percentile({0.5: 0.0, math.inf: 10.0}, 99) == pytest.approx(0.5)
