import pytest

from orchestrator.telemetry.traces import new_trace, parse_traceparent

HEADER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_a_header_is_read_and_written() -> None:
    trace = parse_traceparent(HEADER)
    assert trace is not None
    assert trace.trace_id == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert trace.traceparent == HEADER


def test_what_is_not_sampled_stays_so() -> None:
    trace = parse_traceparent(HEADER[:-2] + "00")
    assert trace is not None
    assert trace.traceparent.endswith("-00")


def test_a_new_trace_reads_back() -> None:
    trace = new_trace()
    assert parse_traceparent(trace.traceparent) == trace


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "nonsense",
        HEADER.upper(),
        HEADER + "-more",
        "ff" + HEADER[2:],
        "00-" + "0" * 32 + "-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-" + "0" * 16 + "-01",
    ],
)
def test_a_header_that_is_not_valid_is_none(header: str | None) -> None:
    assert parse_traceparent(header) is None


def test_a_later_version_may_say_more() -> None:
    assert parse_traceparent("01" + HEADER[2:] + "-more") == parse_traceparent(HEADER)
