"""Batches are made and cut so that positions stay whole."""

from itertools import pairwise

from aiokafka.structs import ConsumerRecord
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.bus.intake import Part, Reader, halves, to_batch
from orchestrator.bus.options import BusOptions
from orchestrator.bus.outgoing import encode
from orchestrator.domain.ids import TaskId
from orchestrator.store.ingest import DeadLetter, NewEvent, Origin
from orchestrator.store.outbox import Letter


def event(topic: str, partition: int, offset: int) -> NewEvent:
    origin = Origin(topic=topic, partition=partition, offset=offset, value=b"{}")
    return NewEvent(origin=origin, task_id=TaskId("t"), event_type="data", payload={})


@st.composite
def parts(draw: st.DrawFn) -> list[Part]:
    """Up to four partitions whose offsets have holes, as transactions leave them."""
    found = []
    for partition in range(draw(st.integers(1, 4))):
        offsets = sorted(draw(st.sets(st.integers(10, 60), max_size=8)))
        found.append(
            Part(
                topic="events",
                partition=partition,
                expected=draw(st.integers(0, 10)),
                next_offset=(offsets[-1] if offsets else 10) + draw(st.integers(1, 5)),
                items=tuple(event("events", partition, offset) for offset in offsets),
            )
        )
    return found


def offsets(found: list[Part]) -> list[tuple[int, int]]:
    return [(p.partition, i.origin.offset) for p in found for i in p.items]


@given(whole=parts().filter(lambda p: sum(len(x.items) for x in p) > 1))
def test_halves_hold_every_message_once_and_in_order(whole: list[Part]) -> None:
    before, after = halves(whole)
    assert offsets(before) + offsets(after) == offsets(whole)
    assert offsets(before)
    assert offsets(after)


@given(whole=parts().filter(lambda p: sum(len(x.items) for x in p) > 1))
def test_positions_of_the_halves_meet(whole: list[Part]) -> None:
    before, after = halves(whole)
    for part in whole:
        pieces = [p for p in (*before, *after) if p.partition == part.partition]
        assert pieces[0].expected == part.expected
        assert pieces[-1].next_offset == part.next_offset
        for earlier, later in pairwise(pieces):
            assert earlier.next_offset == later.expected
            assert earlier.items[-1].origin.offset < earlier.next_offset


def test_a_batch_keeps_letters_apart_from_messages() -> None:
    origin = Origin(topic="tasks", partition=0, offset=1)
    letter = DeadLetter(origin=origin, topic="d", key=None, value=None, headers=())
    good = event("tasks", 0, 0)
    part = Part(topic="tasks", partition=0, expected=0, next_offset=2, items=(good, letter))
    batch = to_batch([part], cluster_id="c")
    assert batch.messages == (good,)
    assert batch.dead_letters == (letter,)
    assert batch.advances[0].next_offset == 2


def test_an_oversized_message_is_a_dead_letter_byte_for_byte() -> None:
    options, value = BusOptions(), b"x" * 1_030_000
    assert options.max_message_bytes < len(value) < options.max_publish_bytes
    record = ConsumerRecord("tasks", 0, 7, 1, 0, b"k", value, None, 1, len(value), [("h", b"v")])
    item = Reader(options, cluster_id="c").read(record)
    assert isinstance(item, DeadLetter)
    row = Letter(id=1, topic=item.topic, key=item.key, value=item.value, headers=item.headers)
    (sent,) = encode(row, options, max_bytes=options.max_publish_bytes)
    assert (sent.key, sent.value) == (b"k", value)
    assert dict(sent.headers)["dlq.reason"] == b"too_large"
