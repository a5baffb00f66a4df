import pytest

from orchestrator.telemetry.traces import continue_trace, new_trace, parse_traceparent

HEADER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_a_header_is_read_and_written() -> None:
    trace = parse_traceparent(HEADER)
    assert trace is not None
    assert trace.trace_id == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert trace.traceparent == HEADER


def test_a_child_stays_in_the_trace_under_a_span_of_its_own() -> None:
    child = continue_trace(HEADER)
    assert child.trace_id == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert child.span_id != "00f067aa0ba902b7"
    assert child.is_sampled


def test_what_is_not_sampled_stays_so() -> None:
    assert continue_trace(HEADER[:-2] + "00").traceparent.endswith("-00")


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
    assert parse_traceparent("01" + HEADER[2:] + "-more") is not None
