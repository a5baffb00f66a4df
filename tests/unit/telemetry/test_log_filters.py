import logging

from orchestrator.telemetry.log_filters import MAX_REMEMBERED, RateFilter


def record(message: str, *, name: str = "aiokafka") -> logging.LogRecord:
    return logging.LogRecord(name, logging.WARNING, "file", 1, message, (), None)


def test_a_repetition_passes_after_the_interval_and_says_how_many_it_stands_for() -> None:
    now = 0.0
    rate = RateFilter(interval_seconds=10, clock=lambda: now)
    passed = []
    for _ in range(100):
        again = record("absent")
        if rate.filter(again):
            passed.append((now, getattr(again, "suppressed", 0)))
        now += 0.5
    assert passed == [(0.0, 0), (10.0, 19), (20.0, 19), (30.0, 19), (40.0, 19)]


def test_different_messages_do_not_hold_each_other_back() -> None:
    rate = RateFilter(clock=lambda: 0.0)
    assert rate.filter(record("one"))
    assert rate.filter(record("two"))
    assert rate.filter(record("one", name="asyncio"))


def test_memory_is_bounded() -> None:
    rate = RateFilter(clock=lambda: 0.0)
    for number in range(MAX_REMEMBERED * 3):
        rate.filter(record(f"message {number}"))
    assert len(rate._seen) <= MAX_REMEMBERED
