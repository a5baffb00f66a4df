"""Headers survive the way through PostgreSQL."""

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.bus.headers import first, headers_to_bytes, headers_to_text

NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=10)


@given(headers=st.lists(st.tuples(NAMES, st.binary(max_size=30) | st.none())))
def test_headers_come_back_as_they_were(headers: list[tuple[str, bytes | None]]) -> None:
    assert headers_to_bytes(headers_to_text(headers)) == headers


def test_values_that_look_encoded_come_back_as_they_were() -> None:
    headers = [("a", b"base64:AAAA"), ("b", b"null:"), ("c", b"\x00"), ("d", None), ("d", b"")]
    assert headers_to_bytes(headers_to_text(headers)) == headers


def test_text_stays_readable() -> None:
    assert headers_to_text([("a", "é".encode())]) == (("a", "é"),)


def test_names_are_found_in_any_case() -> None:
    assert first((("Content-Type", "x"), ("content-type", "y")), "content-type") == "x"
