"""The one reader of JSON: a number keeps its value, or is refused by name."""

import json
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchestrator.domain.json import UnreadableJson, read_json, storable

KEPT = (
    "0",
    "-0",
    "1",
    "1.0",
    "0.1",
    "-0.0",
    "1e2",
    "1E-7",
    "1e300",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615",
    "0.30000000000000004",
    "0.10000000000000001",  # 0.1 as C's %.17g writes it
    "0.1000000000000000055511151231257827",  # 0.1 as it lies in memory
    "1.50000000000000000000000",
    "123456789012345.0",
    "1234567890123456e1",
    "2.2250738585072014e-308",
    "5e-324",
    "0e999",
)
REFUSED = (
    "18446744073709551616",
    "-9223372036854775809",
    "18446744073709551617",
    "9" * 78,
    "1" * 5000,
    "0.1234567890123456789",
    "3.14159265358979323846",
    "12345678901234567890.5",
    "9999999999999999e1",
    "12345678901234567E-3",
    "123456789012345678e+2",
    "1e400",
    "-1e400",
    "1e-400",
    "1.2345e-320",
    "0." + "1" * 1000,
    "NaN",
    "Infinity",
    "-Infinity",
)


@pytest.mark.parametrize("digits", KEPT)
def test_a_number_that_a_double_or_64_bits_hold_keeps_its_value(digits: str) -> None:
    for text in (digits, f'{{"a": [{digits}]}}', f"[ {digits} , 1]"):
        found = str(read_json(text)).strip("{}[]'a: ").split(",")[0]
        assert float(found) == float(digits)
    assert isinstance(read_json(digits), float) == any(sign in digits for sign in ".eE")


@pytest.mark.parametrize("digits", REFUSED)
def test_a_number_that_would_be_changed_is_refused_by_name(digits: str) -> None:
    with pytest.raises(UnreadableJson) as caught:
        read_json(f'{{"order": {{"lines": [1, {{"amount": {digits}}}]}}}}')
    assert caught.value.is_number
    assert str(caught.value).startswith("order.lines[1].amount: ")
    assert digits[:60] in str(caught.value)


@given(st.decimals(allow_nan=False, allow_infinity=False) | st.integers().map(Decimal))
@example(Decimal("2.58921760226855120E-11"))
def test_no_number_is_ever_changed(number: Decimal) -> None:
    digits = str(number).replace("E+", "e")
    try:
        found = read_json(f"[{digits}]")
    except UnreadableJson:
        return
    assert isinstance(found, list)
    significant = str(int("".join(map(str, number.as_tuple().digits)))).rstrip("0")
    count = max(0, len(significant) - 1)
    as_written = f"{found[0]:.{count}e}" if isinstance(found[0], float) else str(found[0])
    assert Decimal(as_written) == number


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_double_survives_as_every_language_writes_it(number: float) -> None:
    for digits in (repr(number), f"{number:.17g}", f"{number:.16e}", f"{number:.25e}"):
        assert read_json(f"[{digits}]") == [number]


def test_long_digits_in_a_text_are_no_number() -> None:
    card = {"a": "4111111111111111111", "b": "x 1e400", "c": ["0.1234567890123456789"]}
    assert read_json(json.dumps(card)) == card


@pytest.mark.parametrize("encoded", [b'\xef\xbb\xbf{"a": 1}', '\ufeff{"a": 1}', b' {"a": 1}\n'])
def test_a_byte_order_mark_is_passed_over(encoded: bytes | str) -> None:
    assert read_json(encoded) == {"a": 1}


@pytest.mark.parametrize(
    ("data", "reason", "says"),
    [
        (b"", "invalid_json", "empty"),
        (b"{", "invalid_json", "line 1 column 2"),
        (b"\xff{}", "invalid_utf8", "0xff at position 0"),
        ('{"a": 1}'.encode("utf-16-le"), "invalid_json", "UTF-16"),
        ('{"a": 1}'.encode("utf-16"), "invalid_utf8", "UTF-16"),
        (b"<html>", "invalid_json", "HTML"),
        (b"\x1f\x8b\x08", "invalid_utf8", "gzip"),
        (b"[" * 65 + b"]" * 65, "too_deep", "64 levels"),
        (b"[" * 100_000, "too_deep", "64 levels"),
    ],
)
def test_what_is_no_json_is_refused_with_what_it_is(data: bytes, reason: str, says: str) -> None:
    with pytest.raises(UnreadableJson, match=says) as caught:
        read_json(data)
    assert caught.value.reason == reason


def test_what_postgresql_can_not_hold_is_replaced_and_merges_no_names() -> None:
    found = read_json('{"a\\u0000": "x\\ud800", "a": "\\ud83d\\ude00", "\\\\u0000": 1}')
    assert found == {"a\ufffd": "x\ufffd", "a": "😀", "\\u0000": 1}


def test_a_value_that_another_library_read_keeps_to_the_same_rules() -> None:
    assert storable({"a\0": ["x\ud800", 1.5, True, None]}) == {
        "a\ufffd": ["x\ufffd", 1.5, True, None]
    }
    for number in (float("nan"), float("-inf"), 2**64, -(2**63) - 1):
        with pytest.raises(UnreadableJson, match=r"^a\[0\]: "):
            storable({"a": [number]})
