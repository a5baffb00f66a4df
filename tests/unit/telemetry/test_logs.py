import asyncio
import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from orchestrator.telemetry.logs import (
    VERBOSE_LOGGER,
    LogOptions,
    bind_task,
    configure_logs,
    get_logger,
)


@pytest.fixture(autouse=True)
def _restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], level = before[0], before[1]
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def configured(options: LogOptions) -> io.StringIO:
    stream = io.StringIO()
    configure_logs(options, stream=stream)
    return stream


def events(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_json_where_nobody_looks() -> None:
    stream = configured(LogOptions())
    get_logger("orchestrator.a").info("step journaled", n=3)
    (event,) = events(stream)
    assert event["message"] == "step journaled"
    assert (event["n"], event["level"], event["logger"]) == (3, "info", "orchestrator.a")


async def test_ids_of_a_task_are_on_all_its_lines_and_on_no_others() -> None:
    stream = configured(LogOptions())

    async def work(task_id: str) -> None:
        with bind_task(task_id, "trace-1"):
            await asyncio.sleep(0)
            get_logger("orchestrator.a").info("inside")
        get_logger("orchestrator.a").info("outside")

    await asyncio.gather(work("one"), work("two"))
    inside = [e for e in events(stream) if e["message"] == "inside"]
    assert [(e["task_id"], e["trace_id"]) for e in inside] == [
        ("one", "trace-1"),
        ("two", "trace-1"),
    ]
    assert not any("task_id" in e for e in events(stream) if e["message"] == "outside")


def test_a_flood_of_another_library_is_one_line() -> None:
    stream = configured(LogOptions())
    for node in range(780):
        logging.getLogger("aiokafka.conn").warning("Unable to connect to node %s", node)
    assert [e["message"] for e in events(stream)] == ["Unable to connect to node 0"]


def test_our_own_lines_are_never_suppressed() -> None:
    stream = configured(LogOptions())
    for _ in range(3):
        get_logger("orchestrator.a").info("again")
    assert len(events(stream)) == 3


def test_requests_of_http_clients_are_not_logged() -> None:
    stream = configured(LogOptions(level="debug"))
    logging.getLogger("httpx").info("HTTP Request: GET https://host/?key=secret")
    assert events(stream) == []


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_value_can_not_forge_a_line(log_format: str) -> None:
    stream = configured(LogOptions(format="json" if log_format == "json" else "console"))
    get_logger("orchestrator.a").info("got", value="x\r\n2026 [info] forged\x1b[2J\u2028")
    (line,) = stream.getvalue().split("\n")[:-1]
    assert "\x1b" not in line
    assert "\r" not in line


def test_an_exceptions_text_can_not_move_the_cursor() -> None:
    stream = configured(LogOptions(format="console"))
    try:
        b"\xff".decode("\x1b[2J")
    except LookupError:
        get_logger("orchestrator.a").exception("failed")
    assert "\x1b" not in stream.getvalue()
    assert "LookupError" in stream.getvalue()


def test_verbose_lines_come_only_when_asked_for() -> None:
    stream = configured(LogOptions(format="console"))
    get_logger(VERBOSE_LOGGER).info("prompt", block="secret of the task")
    assert stream.getvalue() == ""
    stream = configured(LogOptions(format="console", verbose=True))
    get_logger(VERBOSE_LOGGER).info("prompt", block="first\nsecond")
    assert stream.getvalue().endswith("    | first\n    | second\n")
