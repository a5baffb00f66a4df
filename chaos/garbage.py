"""Messages that the contract refuses, generated: bytes, broken JSON, wrong types, sizes and depths.

A case that happens to be valid is left out. One on which the contract raises anything but a refusal
ends the generation with that error: a worker would have died of it.
"""

import json
import random
from dataclasses import dataclass, replace

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from orchestrator.bus.contract import EventMessage, TaskMessage
from orchestrator.bus.headers import headers_to_text
from orchestrator.bus.messages import parse_event, parse_task, readable_task_id
from orchestrator.domain.errors import InvalidMessage
from orchestrator.store.ingest import Origin

MAX_BYTES = 1_000_000
DEEP = 100_000
CHANGES = 20
"""Cases made of each one that Hypothesis draws."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What one message is made of."""

    topic: str
    value: bytes | None
    has_key: bool
    headers: tuple[tuple[str, bytes | None], ...] = ()


FIELDS = sorted(TaskMessage.model_fields.keys() | EventMessage.model_fields.keys())

# What JSON's grammar, or PostgreSQL's, does not take, as raw pieces of JSON text.
_PIECES = (
    *(b"1e400", b"-1e999", b"NaN", b"Infinity", b"-Infinity", b"9" * 400, b"01", b"+1", b".5"),
    *(b'"\\u0000"', b'"\x00"', b'"\\ud800"', b'"\xed\xa0\x80"', b'"\xff"', b"'x'", b"tru", b'"\n"'),
)
_RAW = st.sampled_from(_PIECES)
_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
_NAMES = st.sampled_from(FIELDS) | st.text(max_size=8)


def _dumped(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _pairs(pairs: list[tuple[str, bytes]]) -> bytes:
    """An object as it is written, so that a name can come twice."""
    return b"{" + b", ".join(_dumped(name) + b": " + value for name, value in pairs) + b"}"


_OBJECTS = st.lists(st.tuples(_NAMES, _VALUES.map(_dumped) | _RAW), max_size=6).map(_pairs)
_TWICE = st.tuples(_NAMES, _VALUES.map(_dumped)).map(
    lambda pair: _pairs([("task_description", b'"x"'), pair, pair])
)
_CUT = st.tuples(_OBJECTS, st.integers(0, 60)).map(lambda cut: cut[0][: cut[1]])
_DEEP = st.tuples(
    st.sampled_from([b'{"a":', b"["]),
    st.integers(65, 2000) | st.sampled_from([DEEP]),
    st.booleans(),
).map(lambda d: d[0] * d[1] + (b"1" + (b"}" if d[0] != b"[" else b"]") * d[1] if d[2] else b""))
_RARELY_DEEP = st.integers(0, 19).flatmap(lambda n: _DEEP if n == 0 else _OBJECTS)
_BYTES = st.binary(max_size=300)

VALUES = st.none() | _BYTES | _OBJECTS | _TWICE | _CUT | _RARELY_DEEP
"""Of any message, valid ones among them."""

_HEADERS = st.just(()) | st.lists(
    st.tuples(
        st.sampled_from(["ce_id", "ce_specversion", "content-type"]) | st.text(max_size=8),
        st.binary(max_size=20) | st.none(),
    ),
    max_size=4,
).map(tuple)

CASES = st.builds(
    Case,
    topic=st.sampled_from(["tasks", "events"]),
    value=VALUES,
    has_key=st.booleans(),
    headers=_HEADERS,
)


def is_refused(case: Case) -> bool:
    """Whether the contract refuses it; raises whatever else comes of it."""
    origin = Origin(
        topic=case.topic,
        partition=0,
        offset=0,
        value=case.value,
        headers=headers_to_text(case.headers),
    )
    try:
        if case.topic == "tasks":
            parse_task(origin, cluster_id="c", max_bytes=MAX_BYTES)
        else:
            parse_event(origin, max_bytes=MAX_BYTES)
    except InvalidMessage:
        readable_task_id(origin, max_bytes=MAX_BYTES)
        return True
    return False


def generate(count: int, *, dice: random.Random) -> list[Case]:
    """So many cases that are refused; the same for the same die.

    Hypothesis takes some milliseconds for one, so it makes a few and each is changed in many ways.
    """
    seeds = _seeds(max(1, count // CHANGES), number=dice.getrandbits(64))
    found = [case for case in seeds if is_refused(case)]
    while len(found) < count:
        case = _changed(dice.choice(seeds), dice)
        if is_refused(case):
            found.append(case)
    return found[:count]


def _seeds(count: int, *, number: int) -> list[Case]:
    found: list[Case] = []

    @seed(number)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=CASES)
    def each(case: Case) -> None:
        found.append(case)

    each()
    return found


def _changed(case: Case, dice: random.Random) -> Case:
    """Bytes flipped, cut out, written twice, or a piece put in that no JSON may have."""
    value = case.value or b'{"task_id": "t", "task_description": "x"}'
    for _ in range(dice.randint(1, 3)):
        here, there = sorted(dice.randint(0, len(value)) for _ in range(2))
        there = min(there, here + 50)
        piece = dice.choice(
            (dice.choice(_PIECES), dice.randbytes(dice.randint(1, 4)), b"", value[here:there] * 2)
        )
        value = value[:here] + piece + value[there:]
    return replace(case, value=value, topic=dice.choice(("tasks", "events")))
