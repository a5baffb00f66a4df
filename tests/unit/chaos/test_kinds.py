"""What is published is decided by the seed alone, and fits what the model answers."""

import random

import orjson
import pytest

from chaos.kinds import BAD, CALLS, FIELDS, WAITING, WEIGHTS, Message, draw, messages_of, next_calls


def drawn(seed: int) -> list[Message]:
    dice = random.Random(seed)
    return [message for number in range(300) for message in draw(number, dice)]


def test_the_same_seed_publishes_the_same_messages() -> None:
    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_every_kind_is_drawn() -> None:
    assert {message.kind for message in drawn(1)} == set(WEIGHTS) == {*CALLS, BAD}


@pytest.mark.parametrize("kind", CALLS)
def test_the_calls_of_a_kind_add_what_its_task_requires(kind: str) -> None:
    messages = messages_of(kind, f"{kind}-1", random.Random(1))
    (task, *_) = [m for m in messages if m.topic == "tasks"]

    assert task.value is not None
    required = orjson.loads(task.value)["required_fields"]
    calls = [next_calls(f"{kind}-1", made=made, has_event=True) for made in range(len(CALLS[kind]))]
    assert required == [field for turn in calls for tool, _ in turn for field in FIELDS[tool]]


@pytest.mark.parametrize("kind", CALLS)
def test_each_event_has_an_id_by_which_its_loss_is_seen(kind: str) -> None:
    messages = messages_of(kind, f"{kind}-1", random.Random(1))

    assert all(m.event_id for m in messages if m.topic == "events")


@pytest.mark.parametrize("kind", WAITING)
def test_who_waits_for_an_event_calls_nobody_before_it(kind: str) -> None:
    ((tool, _),) = next_calls(f"{kind}-1", made=0, has_event=False)

    assert tool == "wait_for_event"
