"""What is said of messages behind an open transaction."""

import asyncio
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import TopicAuthorizationFailedError

from orchestrator.bus.transactions import OpenTransaction, blocked_text, open_transactions

PLACE = TopicPartition("tasks", 1)


def test_a_transaction_is_told_with_all_that_kafka_says_of_it() -> None:
    found = OpenTransaction(
        producer_id=7, start_offset=3, transactional_id="billing", seconds=61, timeout_seconds=900
    )
    said = blocked_text(PLACE, at=4, behind=5, found=[found])
    assert said.startswith(
        "5 messages of tasks/1 wait from offset 4 on until the transaction of transactional id "
        "'billing' (producer id 7, open for 61 s, aborted after 900 s) ends"
    )
    assert said.endswith("--topic tasks --partition 1 --start-offset 3`")


class Silent:
    """The client of a user who may not ask."""

    @property
    def cluster(self) -> "Silent":
        return self

    def leader_for_partition(self, _: TopicPartition) -> int:
        return 1

    async def send(self, *_: Any) -> None:
        raise TopicAuthorizationFailedError


def test_where_kafka_does_not_tell_whose_it_is_the_messages_are_told_all_the_same() -> None:
    found = asyncio.run(open_transactions(Silent(), PLACE))
    assert found == []
    said = blocked_text(PLACE, at=4, behind=5, found=found)
    assert "until a transaction, of which Kafka tells no more, ends" in said
