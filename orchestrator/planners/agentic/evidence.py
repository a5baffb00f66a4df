"""Whether a value that the model writes down stands in what the task was given. Pure.

It keeps the model from inventing values, not from misreading them: words are compared, not their
meaning. A field that somebody else has to provide says so itself (`from`).
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.domain.json import JsonValue
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.step import CallFinished, EventApplied, Forked

MAX_CHARACTERS = 200_000
"""Of what is searched: the task, its context, its steps from the last on. A prompt holds less."""

_WORD = re.compile(r"[^\W\d_]+")
_NUMBER = re.compile(r"\d+(?:[.,'\u2019 -]\d+)*")
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)t(?:00:00|(\d\d:\d\d))(?::00(?:\.0+)?)?(?:z|[+-]00:00)?\b")
_SIGNS = str.maketrans({"€": " eur ", "$": " usd ", "£": " gbp "})
_SAME = {"yes": "true", "no": "false"}
_MONTHS = "january february march april may june july august september october november december"
_MONTH_NUMBERS = {
    name: str(number)
    for number, month in enumerate(_MONTHS.split(), 1)
    for name in (month, month[:3])
}


@dataclass(frozen=True, slots=True)
class _Found:
    """The words and numbers of a text, in a form in which two spellings of one are equal."""

    words: frozenset[str]
    numbers: tuple[tuple[frozenset[str], frozenset[str]], ...]
    """What each may mean as a whole, and its parts: `1,250` is 1250, or 1.25; or 1 and 250."""


def is_stated(value: JsonValue, snapshot: Snapshot) -> bool:
    """Whether every word and every number of `value` is among those that the task was given.

    Those are its description, its context, its events and what agents answered. Case, order,
    punctuation and the grouping of digits do not matter, `true` is also `yes`, and the English
    name of a month its number. A value of no words and no numbers stands nowhere.
    """
    text = "\n".join(_leaves(value))
    wanted = _found(text)
    if not wanted.words and not wanted.numbers:
        return False
    said = "\n".join(_said(snapshot))
    there = _found(said)
    numbers = frozenset().union(*(part for pair in there.numbers for part in pair))
    if wanted.words <= there.words and all(
        whole & numbers or parts <= numbers for whole, parts in wanted.numbers
    ):
        return True
    # Scripts that put no space between words.
    return not text.isascii() and _plain(text) in _plain(said)


def _said(snapshot: Snapshot) -> Iterator[str]:
    room = MAX_CHARACTERS
    for value in _sources(snapshot):
        for text in _leaves(value, with_names=True):
            yield text[:room]
            room -= len(text)
            if room <= 0:
                return


def _sources(snapshot: Snapshot) -> Iterator[JsonValue]:
    yield snapshot.task.description
    yield snapshot.context.event_data
    yield snapshot.context.collected_data
    for step in reversed(snapshot.steps):
        match step.body:
            case EventApplied(payload=payload):
                yield payload
            case CallFinished(output=output, error=error):
                yield [output, error]
            case Forked(given=given):
                yield given
            case _:
                pass


def _leaves(value: JsonValue, *, with_names: bool = False) -> Iterator[str]:
    """The texts in a value; `with_names` those of its fields too, which are the sender's words."""
    match value:
        case None:
            return
        case bool():
            yield str(value).lower()
        case dict():
            for name, part in value.items():
                if with_names:
                    yield name
                yield from _leaves(part, with_names=with_names)
        case list():
            for part in value:
                yield from _leaves(part, with_names=with_names)
        case float():
            yield f"{value:f}".rstrip("0").rstrip(".")
        case _:
            yield str(value)


def _found(text: str) -> _Found:
    plain = _TIME.sub(r"\1 \2", _plain(text))
    words = frozenset(_SAME.get(word, word) for word in _WORD.findall(plain))
    months = words & _MONTH_NUMBERS.keys()
    digits = {*_NUMBER.findall(plain), *(_MONTH_NUMBERS[month] for month in months)}
    return _Found(words - months, tuple(map(_number, digits)))


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold().translate(_SIGNS)


def _number(digits: str) -> tuple[frozenset[str], frozenset[str]]:
    parts = frozenset(part.lstrip("0") or "0" for part in re.findall(r"\d+", digits))
    return frozenset(_readings(digits)), parts


def _readings(digits: str) -> Iterator[str]:
    """The numbers that these digits with their separators may be, without zeros at the ends."""
    for point, others in ((".", r"[,'\u2019 -]"), (",", r"[.'\u2019 -]")):
        whole, _, fraction = re.sub(others, "", digits).partition(point)
        if fraction.isdigit() or not fraction:
            fraction = fraction.rstrip("0")
            yield f"{whole.lstrip('0') or '0'}{f'.{fraction}' if fraction else ''}"
