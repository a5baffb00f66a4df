from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orchestrator.bus.dead_letters import (
    BATCH_TOO_LARGE,
    CRASH_LOOP,
    GAP,
    HEADERS_LEFT_OUT,
    LENGTH,
    NEXT_OFFSET,
    REPLAY_OF,
)
from orchestrator.bus.letters import DeadLetterView, LetterFilter
from orchestrator.bus.options import Topics
from orchestrator.bus.replay import MAX_REPLAYS, obstacle

TOPICS = Topics()
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def letter(**changes: Any) -> DeadLetterView:
    fields: dict[str, Any] = {
        "id": "a1",
        "reason": "schema",
        "error": "task_description: missing",
        "topic": "tasks",
        "partition": 0,
        "offset": 7,
        "task_id": "t1",
        "replays": 0,
        "at": NOON,
        "key": b"k",
        "value": b'{"Amount": 1}',
        "headers": (),
    }
    return DeadLetterView(**(fields | changes))


MATCHING: list[dict[str, Any]] = [
    {},
    {"reasons": frozenset({"schema", "gap"})},
    {"topic": "tasks", "task_id": "t1"},
    {"since": NOON, "until": NOON},
    {"contains": "amount"},
    {"contains": "MISSING"},
]


@pytest.mark.parametrize("given", MATCHING)
def test_a_letter_matches_where_everything_holds_that_is_given(given: dict[str, Any]) -> None:
    assert LetterFilter(**given).matches(letter())


OTHERS: list[dict[str, Any]] = [
    {"reasons": frozenset({"gap"})},
    {"topic": "events"},
    {"task_id": "t2"},
    {"since": NOON + timedelta(seconds=1)},
    {"until": NOON - timedelta(seconds=1)},
    {"contains": "price"},
    {"topic": "tasks", "contains": "price"},
]


@pytest.mark.parametrize("given", OTHERS)
def test_a_letter_is_left_out_where_one_thing_does_not_hold(given: dict[str, Any]) -> None:
    assert not LetterFilter(**given).matches(letter())


def test_a_whole_message_can_be_sent_again_three_times() -> None:
    assert obstacle(letter(replays=MAX_REPLAYS - 1), topics=TOPICS, force=False) is None
    spent = letter(replays=MAX_REPLAYS)
    assert "sent again 3 times already" in (obstacle(spent, topics=TOPICS, force=False) or "")
    assert obstacle(spent, topics=TOPICS, force=True) is None


@pytest.mark.parametrize(
    "topic", ["task-updates", "dead-letters", "payments", "Tasks", "__consumer"]
)
def test_a_message_is_sent_again_to_no_topic_but_our_inputs(topic: str) -> None:
    for force in (True, False):
        said = obstacle(letter(topic=topic), topics=TOPICS, force=force, is_edited=force)
        assert f"names topic {topic!r} as its origin" in (said or "")
        assert "only to 'tasks' and 'events'" in (said or "")


def test_a_letter_without_a_message_is_never_sent_again() -> None:
    for gone in (letter(reason=GAP), letter(topic="")):
        assert "nothing to send again" in (obstacle(gone, topics=TOPICS, force=True) or "")


def test_a_message_that_killed_its_readers_is_sent_again_and_a_range_of_them_is_not() -> None:
    alone = letter(reason=CRASH_LOOP, task_id=None)
    assert obstacle(alone, topics=TOPICS, force=False) is None
    assert not alone.is_of_task
    some = letter(reason=CRASH_LOOP, task_id=None, headers=((NEXT_OFFSET, "9"),))
    large = letter(reason=BATCH_TOO_LARGE, headers=((NEXT_OFFSET, "9"),))
    for gone in (some, large):
        assert "nothing to send again" in (obstacle(gone, topics=TOPICS, force=True) or "")


def test_what_was_cut_can_only_be_replaced() -> None:
    cut = letter(headers=((LENGTH, "9000000"),))
    assert "the beginning of its message" in (obstacle(cut, topics=TOPICS, force=True) or "")
    assert obstacle(cut, topics=TOPICS, force=False, is_edited=True) is None
    bare = letter(headers=((HEADERS_LEFT_OUT, "40"),))
    assert "no headers" in (obstacle(bare, topics=TOPICS, force=True, is_edited=True) or "")


def test_letters_of_one_kin_have_one_origin() -> None:
    assert letter().origin == "a1"
    assert letter(id="a2", headers=((REPLAY_OF, "a1"),)).origin == "a1"
    assert letter(headers=((REPLAY_OF, "x" * 5000),)).origin == "a1", "nobody of us wrote that"
    assert letter(id="b1", reason=CRASH_LOOP).origin == letter(id="b2", reason=CRASH_LOOP).origin


def test_a_stored_task_goes_back_to_work_as_it_is() -> None:
    stored = letter(reason=CRASH_LOOP, headers=((LENGTH, "9000000"),))
    assert obstacle(stored, topics=TOPICS, force=False) is None
    assert "publish another task" in (
        obstacle(stored, topics=TOPICS, force=False, is_edited=True) or ""
    )
