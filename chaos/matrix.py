"""All classes of faults, in the order in which they are run and told; and the rows not run here."""

from chaos.fault import Fault
from chaos.faults import (
    clocks,
    crash_loop,
    crash_points,
    kafka,
    malformed,
    networks,
    postgres,
    workers,
)

MATRIX: tuple[Fault, ...] = (
    workers.KILLED,
    workers.FROZEN,
    workers.TAKEN_OVER,
    workers.REBORN,
    workers.ROLLED,
    workers.REBALANCED,
    crash_loop.FAULT,
    crash_points.FAULT,
    clocks.FAULT,
    postgres.CRASHED,
    postgres.CUT_OFF,
    postgres.FROZEN,
    postgres.AWAY,
    postgres.LATE,
    kafka.CRASHED,
    kafka.FROZEN,
    kafka.AWAY,
    kafka.LATE,
    networks.POSTGRES,
    networks.REPLIES,
    networks.KAFKA,
    networks.AGENTS,
    networks.MODEL,
    malformed.FAULT,
)

NOT_RUN: tuple[tuple[str, str], ...] = (
    (
        "Kafka's single error codes (3, 5, 6, 7, 14, 15, 16, 22, 25, 27, 45, 47, 59)",
        "on librdkafka's mock cluster, by kind of request: "
        "tests/integration/bus/test_error_codes.py; topics deleted and made anew, logs trimmed and "
        "lost in test_logs.py and test_faults.py beside it",
    ),
    (
        "PostgreSQL's disk full",
        "a file system of a chosen size needs root's rights: with them, "
        "tests/crash/test_full_disk.py",
    ),
    (
        "deadlocks, serialization",
        "rows are locked in the order of ids: tests/integration/store/test_races.py",
    ),
    (
        "agents and models that answer badly",
        "tables of single answers: tests/conformance, tests/acceptance",
    ),
    ("long transaction of 10 minutes", "nightly by its length; the alarm has its own test"),
    (
        "worker with a full disk or few descriptors",
        "a worker writes no file; descriptors are the soak's",
    ),
)
"""Rows of the plan of faults that `make chaos` does not run, and why."""
