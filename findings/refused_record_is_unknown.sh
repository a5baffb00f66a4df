#!/usr/bin/env bash
# Expected: a record that the broker refuses with INVALID_RECORD (code 87: no key in a compacted
# topic, a timestamp out of range) is reported under that name, as Kafka's own client and librdkafka
# do, so that a sender can tell it from a broker that is not well.
# Seen: aiokafka 0.14.0 does not know the code. Each send of the batch, also of the good records in
# it, ends in UnknownError, without the broker's message and without the index of the refused record.
# What to do: register an error class for code 87 in aiokafka.errors.kafka_errors, and send the
# records of a refused batch one by one.
# Versions: aiokafka 0.14.0; librdkafka and its mock broker of confluent-kafka 2.16.1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" -q install aiokafka==0.14.0 confluent-kafka==2.16.1
cat > "$folder/refused.py" <<'PY'
import asyncio
import ctypes
import sys

from aiokafka import AIOKafkaProducer
from confluent_kafka import Producer, cimpl

PRODUCE, INVALID_RECORD = 0, 87


class Mock:
    """librdkafka's mock cluster, of one broker; its functions are in the wheel's library."""

    def __init__(self) -> None:
        self.library = library = ctypes.CDLL(cimpl.__file__)
        library.rd_kafka_conf_new.restype = ctypes.c_void_p
        library.rd_kafka_new.restype = ctypes.c_void_p
        library.rd_kafka_mock_cluster_new.restype = ctypes.c_void_p
        library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
        reason = ctypes.create_string_buffer(512)
        conf = ctypes.c_void_p(library.rd_kafka_conf_new())
        handle = ctypes.c_void_p(library.rd_kafka_new(0, conf, reason, len(reason)))
        self.cluster = ctypes.c_void_p(library.rd_kafka_mock_cluster_new(handle, 1))
        library.rd_kafka_mock_topic_create(self.cluster, b"orders", 1, 1)
        self.servers = library.rd_kafka_mock_cluster_bootstraps(self.cluster).decode()

    def refuse_the_next(self) -> None:
        self.library.rd_kafka_mock_broker_push_request_error_rtts(
            self.cluster, 1, ctypes.c_int16(PRODUCE), ctypes.c_size_t(1), INVALID_RECORD, 0
        )


def of_librdkafka(mock: Mock) -> str:
    told: list[str] = []
    producer = Producer({"bootstrap.servers": mock.servers, "log_level": 3})
    mock.refuse_the_next()
    producer.produce("orders", b"x", on_delivery=lambda error, _: told.append(error.name()))
    producer.flush(10)
    return told[0]


async def of_aiokafka(mock: Mock) -> list[str]:
    async with AIOKafkaProducer(bootstrap_servers=mock.servers, linger_ms=200) as producer:
        mock.refuse_the_next()
        sent = [await producer.send("orders", value, partition=0) for value in (b"a", b"b")]
        found = await asyncio.gather(*sent, return_exceptions=True)
    return [type(error).__name__ for error in found]


mock = Mock()
seen = of_librdkafka(mock), asyncio.run(of_aiokafka(mock))
print(seen)
sys.exit(seen != ("INVALID_RECORD", ["UnknownError", "UnknownError"]))
PY
timeout 60 "$folder/venv/bin/python" "$folder/refused.py"
