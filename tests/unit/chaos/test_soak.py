"""What grows is told from what only goes up and down."""

import random

from chaos.soak import Allowed, trend

ALLOWED = Allowed(amount=5)


def test_noise_around_a_value_is_flat() -> None:
    dice = random.Random(7)
    samples = [(float(n), 100 + dice.uniform(-8, 8)) for n in range(90)]

    assert trend("x", samples, ALLOWED).is_flat


def test_a_leak_under_noise_is_no_flat_trend() -> None:
    dice = random.Random(7)
    samples = [(float(n), 100 + n / 2 + dice.uniform(-8, 8)) for n in range(90)]

    found = trend("x", samples, ALLOWED)

    assert not found.is_flat
    assert 20 < found.growth < 40


def test_growth_before_the_end_of_the_warm_up_does_not_count() -> None:
    samples = [(float(n), min(n, 30) * 10.0) for n in range(90)]

    assert trend("x", samples, ALLOWED).is_flat


def test_one_outlier_bends_no_trend() -> None:
    samples = [(float(n), 10_000.0 if n == 80 else 10.0) for n in range(90)]

    assert trend("x", samples, ALLOWED).growth == 0


def test_what_was_measured_once_is_not_called_flat() -> None:
    assert not trend("x", [(1.0, 10.0)], ALLOWED).is_flat
    assert not trend("x", [], ALLOWED).is_flat
