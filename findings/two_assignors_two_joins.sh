#!/usr/bin/env bash
# Expected: a consumer that offers two assignors joins its group with one JoinGroup request that
# lists both protocols, as Kafka's own client does.
# Seen: aiokafka 0.14.0 sends one JoinGroup request for each assignor: the first lists one protocol,
# the second two. The answer to the first is dropped. In a group that shares only the second
# protocol, the first request is refused (INCONSISTENT_GROUP_PROTOCOL) at each join; in any other
# group each join costs a second rebalance.
# What to do: offer one assignor, and a second one only for as long as a rolling change needs it.
# Versions: aiokafka 0.14.0; the broker is the mock cluster of confluent-kafka 2.16.0 (librdkafka).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" -q install aiokafka==0.14.0 confluent-kafka==2.16.0
cat > "$folder/joins.py" <<'PY'
import asyncio
import logging
import sys

from aiokafka import AIOKafkaConsumer
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from confluent_kafka import Producer

joins: list[int] = []


class Joins(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if str(record.msg).startswith("Sending JoinGroup"):
            joins.append(len(record.args[0]._group_protocols))


async def join(bootstrap: str, group: str, *assignors: type) -> list[int]:
    """How many protocols each JoinGroup request of one join lists."""
    joins.clear()
    consumer = AIOKafkaConsumer(
        "orders",
        bootstrap_servers=bootstrap,
        group_id=group,
        partition_assignment_strategy=assignors,
    )
    await consumer.start()
    while not consumer.assignment():
        await asyncio.sleep(0.05)
    await consumer.stop()
    return list(joins)


async def main() -> int:
    mock = Producer({"test.mock.num.brokers": 1, "log_level": 3})
    mock.produce("orders", b"1")
    mock.flush(10)
    (broker,) = mock.list_topics(timeout=10).brokers.values()
    bootstrap = f"{broker.host}:{broker.port}"
    log = logging.getLogger("aiokafka.consumer.group_coordinator")
    log.setLevel(logging.DEBUG)
    log.addHandler(Joins())
    log.propagate = False
    async with asyncio.timeout(60):
        one = await join(bootstrap, "one", RoundRobinPartitionAssignor)
        two = await join(bootstrap, "two", RoundRobinPartitionAssignor, RangePartitionAssignor)
    print("protocols in each JoinGroup request: one assignor", one, "two assignors", two)
    return 0 if 2 not in one and 1 in two and 2 in two else 1


sys.exit(asyncio.run(main()))
PY
"$folder/venv/bin/python" "$folder/joins.py"
