"""Messages are read in turns: whatever one costs, others on the event loop do not wait for all."""

import asyncio
import time

import pytest
from aiokafka import ConsumerRecord, TopicPartition

from orchestrator.bus import contract
from orchestrator.bus.contract import TaskMessage
from orchestrator.bus.intake import Item, Reader
from orchestrator.bus.options import BusOptions
from orchestrator.bus.reading import TURN_SECONDS, Reading
from orchestrator.bus.rebalance import Assignment
from orchestrator.domain.errors import InvalidMessage
from orchestrator.domain.json import JsonObject

PLACE = TopicPartition("tasks", 0)


class Client:
    async def position(self, _: TopicPartition) -> int:
        return 0


class Slow(Reader):
    """Each message takes a turn's time of the processor."""

    def read(self, record: ConsumerRecord) -> Item:
        began = time.monotonic()
        while time.monotonic() - began < TURN_SECONDS:
            pass
        return super().read(record)


def record(offset: int) -> ConsumerRecord:
    sizes = {"serialized_key_size": -1, "serialized_value_size": 2}
    place = {"topic": PLACE.topic, "partition": PLACE.partition, "offset": offset}
    rest = {"timestamp": 0, "timestamp_type": 0, "checksum": None, "headers": ()}
    return ConsumerRecord(**place, **sizes, **rest, key=None, value=b"{}")


async def test_others_have_their_turn_between_slow_messages() -> None:
    client, turns = Client(), 0
    assignment = Assignment(client)
    assignment.positions[PLACE] = 0
    reading = Reading(client, assignment, reader=Slow(BusOptions(), cluster_id="c"))

    async def heartbeat() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beating = asyncio.create_task(heartbeat())
    (part,) = await reading.parts({PLACE: [record(offset) for offset in range(10)]})
    beating.cancel()
    assert len(part.items) == 10
    assert turns >= 10


VERY_MANY: JsonObject = {f"name-{number}": 1 for number in range(5000)}
LONG = "task_description" * 1000


@pytest.mark.parametrize(
    ("strange", "says"),
    [
        (VERY_MANY, 'unknown field "name-0" and 4999 more; known are task_id, '),
        ({"budget": VERY_MANY}, 'budget: unknown field "name-0" and 4999 more; known are tokens'),
        ({LONG: 1}, 'unknown field "task_descriptiontask_description'),
        ({"required_fields": [1] * 5000}, "required_fields: got [1, 1, 1, 1,"),
        ({"budget": VERY_MANY, "tenant": 1, "nmae": 1}, 'unknown field "nmae"'),
    ],
)
def test_what_is_told_of_very_many_faults_is_short(strange: JsonObject, says: str) -> None:
    with pytest.raises(InvalidMessage) as refused:
        TaskMessage.read({"task_description": "x", **strange})
    assert str(refused.value).startswith(says)
    assert len(str(refused.value)) < 1000


def test_a_near_name_is_looked_for_with_the_beginning_of_a_long_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked: list[str] = []

    def close(word: str, known: list[str], n: int) -> list[str]:
        looked.append(word)
        return known[:n]

    monkeypatch.setattr(contract, "get_close_matches", close)
    with pytest.raises(InvalidMessage):
        TaskMessage.read({"task_description": "x", LONG: 1, **VERY_MANY})
    assert [len(word) for word in looked] == [contract.MAX_NAME]


def test_pydantic_is_shown_no_unknown_name(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[JsonObject] = []

    def validate(_: object, value: JsonObject) -> TaskMessage:
        shown.append(value)
        return TaskMessage.model_construct(task_description="x")

    monkeypatch.setattr(TaskMessage, "model_validate", classmethod(validate))
    with pytest.raises(InvalidMessage):
        TaskMessage.read({"task_description": "x", **VERY_MANY, "budget": VERY_MANY})
    assert shown == [{"task_description": "x", "budget": {}}]
