"""What is said of something that goes away, comes back, and does both again and again."""

from structlog.testing import capture_logs

from orchestrator.telemetry.outage import Outage


def away() -> Exception:
    return OSError("too many open files")


def test_an_outage_is_told_once_when_it_begins_and_once_when_it_is_over() -> None:
    outage = Outage("PostgreSQL", during="statements")
    with capture_logs() as lines:
        for _ in range(10):
            outage.failed(away())
        assert outage.reason == "too many open files"
        outage.is_over()
        outage.is_over()
    assert outage.reason is None
    assert [line["event"] for line in lines] == ["unavailable", "available again"]


def test_what_comes_and_goes_is_not_told_each_time() -> None:
    outage = Outage("PostgreSQL", during="statements")
    with capture_logs() as lines:
        for _ in range(100):
            outage.failed(away())
            outage.is_over()
    assert [line["event"] for line in lines] == ["unavailable", "available again"]


def test_a_second_outage_that_lasts_is_told() -> None:
    outage = Outage("PostgreSQL", during="statements", quiet_seconds=0.2)
    outage.failed(away())
    outage.is_over()
    with capture_logs() as lines:
        while not lines:
            outage.failed(away())
        outage.is_over()
    assert [line["event"] for line in lines] == ["unavailable", "available again"]
