import json

import pytest

from orchestrator.cli.output import duration_text, laid_out, shortened
from orchestrator.cli.task_view import progress_bar, progress_text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0s"),
        (3.21, "3.2s"),
        (59, "59s"),
        (200, "3m20s"),
        (18_120, "5h02m"),
        (356_400, "4d03h"),
    ],
)
def test_durations_are_read_at_a_glance(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_progress_is_fields_of_fields() -> None:
    assert progress_text(collected=2, required=3) == "2 of 3 fields"
    assert progress_bar(collected=2, required=4).plain == "█████░░░░░ 2 of 4 fields"
    assert progress_bar(collected=0, required=0).plain == "no required fields"


def test_a_long_text_is_one_short_line() -> None:
    assert shortened("a\n b" * 10, 8) == "a ba ba…"
    assert shortened(None, 8) == ""


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        {"a": {}},
        [[], [1, {"b": [2]}], "x"],
        {'{[,:"]}\\': '"\\\\"', "b": [None, 1.5]},
        5,
        "x",
    ],
    ids=json.dumps,
)
@pytest.mark.parametrize("indent", [None, 7])
def test_json_is_laid_out_as_python_does_it(value: object, indent: int | None) -> None:
    assert laid_out(json.dumps(value, indent=indent)) == json.dumps(value, indent=2)


def test_json_that_is_laid_out_keeps_what_a_parser_would_change() -> None:
    text = '{"n":18446744073709551617,"n":1.10,"t":"\\u00e4","f":1E400}'
    assert laid_out(text).split() == [
        "{",
        *('"n":', "18446744073709551617,", '"n":', "1.10,"),
        *('"t":', '"\\u00e4",', '"f":', "1E400"),
        "}",
    ]
