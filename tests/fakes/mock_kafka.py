"""librdkafka's mock cluster: brokers that answer with the error codes that a test wants.

For single error codes alone; everything else is tested on Apache Kafka. Its functions are in the
shared library of confluent-kafka's wheel, which does not offer them in Python.
"""

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from confluent_kafka import cimpl

PRODUCE, FETCH, LIST_OFFSETS = 0, 1, 2
OFFSET_COMMIT, FIND_COORDINATOR, JOIN_GROUP, HEARTBEAT = 8, 10, 11, 12
SYNC_GROUP, INIT_PRODUCER_ID = 14, 22

REBALANCE_MS = 100

_PRODUCER = 0
_BROKER = 1
"""The only one. What is pushed to it can be counted, what is pushed to the cluster can't."""


def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(cimpl.__file__)
    pointer, text = ctypes.c_void_p, ctypes.c_char_p
    for name, result, arguments in (
        ("rd_kafka_conf_new", pointer, []),
        ("rd_kafka_new", pointer, [ctypes.c_int, pointer, text, ctypes.c_size_t]),
        ("rd_kafka_destroy", None, [pointer]),
        ("rd_kafka_mock_cluster_new", pointer, [pointer, ctypes.c_int]),
        ("rd_kafka_mock_cluster_destroy", None, [pointer]),
        ("rd_kafka_mock_cluster_bootstraps", text, [pointer]),
        ("rd_kafka_mock_topic_create", ctypes.c_int, [pointer, text, ctypes.c_int, ctypes.c_int]),
        ("rd_kafka_mock_group_initial_rebalance_delay_ms", None, [pointer, ctypes.c_int32]),
        # With an error and a delay more for each answer.
        (
            "rd_kafka_mock_broker_push_request_error_rtts",
            ctypes.c_int,
            [pointer, ctypes.c_int32, ctypes.c_int16, ctypes.c_size_t],
        ),
        (
            "rd_kafka_mock_broker_error_stack_cnt",
            ctypes.c_int,
            [pointer, ctypes.c_int32, ctypes.c_int16, ctypes.POINTER(ctypes.c_size_t)],
        ),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class MockKafka:
    """One broker, in threads of this process. Made by `running_mock_kafka`."""

    def __init__(self, library: ctypes.CDLL, cluster: int) -> None:
        self._library = library
        self._cluster = cluster

    @property
    def bootstrap_servers(self) -> str:
        bootstraps: bytes = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster)
        return bootstraps.decode()

    def create_topics(self, names: Sequence[str], *, partitions: int) -> None:
        for name in names:
            told = self._library.rd_kafka_mock_topic_create(
                self._cluster, name.encode(), partitions, 1
            )
            assert told == 0, f"topic {name}: error {told}"

    def will_answer(self, request: int, *codes: int) -> None:
        """The next requests of this kind get these errors, one after the other."""
        pairs = (ctypes.c_int(number) for code in codes for number in (code, 0))
        told = self._library.rd_kafka_mock_broker_push_request_error_rtts(
            self._cluster, _BROKER, request, len(codes), *pairs
        )
        assert told == 0, f"errors for request {request}: error {told}"

    def left(self, request: int) -> int:
        """Of these errors, how many nobody has been answered with yet."""
        left = ctypes.c_size_t(0)
        told = self._library.rd_kafka_mock_broker_error_stack_cnt(
            self._cluster, _BROKER, request, ctypes.byref(left)
        )
        assert told == 0, f"errors left for request {request}: error {told}"
        return left.value


@contextmanager
def running_mock_kafka() -> Iterator[MockKafka]:
    library = _library()
    reason = ctypes.create_string_buffer(512)
    handle = library.rd_kafka_new(_PRODUCER, library.rd_kafka_conf_new(), reason, len(reason))
    assert handle, reason.value
    cluster = library.rd_kafka_mock_cluster_new(handle, 1)
    # It is 3 s, and passes at each join.
    library.rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, REBALANCE_MS)
    try:
        yield MockKafka(library, cluster)
    finally:
        library.rd_kafka_mock_cluster_destroy(cluster)
        library.rd_kafka_destroy(handle)
