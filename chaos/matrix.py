"""All classes of faults, in the order in which they are run and told; and the rows not run."""

from chaos.fault import Fault
from chaos.faults import (
    clocks,
    crash_loop,
    crash_points,
    kafka,
    letters,
    malformed,
    networks,
    postgres,
    strangers,
    workers,
)

MATRIX: tuple[Fault, ...] = (
    workers.KILLED,
    workers.FROZEN,
    workers.STARVED,
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
    postgres.READ_ONLY_FOR_A_WHILE,
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
    strangers.FAULT,
    letters.FAULT,
)

NOT_RUN: tuple[tuple[str, str], ...] = (
    (
        "Kafka's single error codes (3, 5, 6, 7, 14, 15, 16, 22, 25, 27, 45, 47, 59)",
        "on librdkafka's mock cluster, by kind of request, some of them once instead of 20 times: "
        "tests/integration/bus/test_error_codes.py",
    ),
    (
        "topics deleted and made anew, logs trimmed and lost",
        "tests/integration/bus/test_logs.py and test_faults.py",
    ),
    ("a broker that comes and goes 50 times", "*broker-crashed* does, 20 times"),
    (
        "PostgreSQL's disk full",
        "a file system of a chosen size needs root's rights: with them, "
        "tests/crash/test_full_disk.py",
    ),
    (
        "PostgreSQL restored to the past",
        "tests/crash/test_restored_database.py and test_point_in_time_recovery.py",
    ),
    (
        "PostgreSQL's clock set",
        "the machine's clock can't be set here; *clock-off* sets a worker's, in Python",
    ),
    (
        "deadlocks, serialization",
        "rows are locked in the order of ids: tests/integration/store/test_races.py tries to, 24 "
        "times by four workers; here every run asks PostgreSQL how many it counted (none may be)",
    ),
    (
        "a value in a batch that PostgreSQL refuses",
        "1 of 512: tests/unit/engine/test_journal.py, tests/integration/bus/test_ingest.py",
    ),
    (
        "messages and answers of 5 and 50 MB, compressed bombs, answers without an end",
        "tests/conformance/test_caller_http.py (answers), tests/integration/engine/test_memory.py; "
        "what a 50 MB message does to the delay of others was not measured",
    ),
    (
        "agents that answer badly, slowly, late, twice or not at all",
        "tests/conformance/test_caller_http.py, tests/integration/engine/test_agent_faults.py and "
        "test_parking.py; an outage of seconds stands there for one of five minutes, and 50 late "
        "or second answers for 1,000",
    ),
    (
        "models that limit, fail, or answer what can't be used",
        "tests/integration/engine/test_parking.py, tests/acceptance/test_retries.py and "
        "test_repairs.py",
    ),
    (
        "agents whose output holds instructions",
        "500 of them, each obeyed by the model: no call outside the policy "
        "(tests/integration/agents/test_injections.py)",
    ),
    (
        "the relay killed between Kafka's word and its own delete",
        "two of the *crash-points*, 20 times each; updates that came twice are counted in each run",
    ),
    (
        "old journals, new code",
        "tests/unit/engine/test_golden_journals.py, tests/integration/store/test_last_release.py",
    ),
    (
        "a transaction open for 10 minutes",
        "not sat through; its alarm: tests/integration/engine/test_long_transactions.py",
    ),
    (
        "a worker with a full disk or too little memory",
        "it writes no file; where memory ends, the kernel kills it: *worker-killed*",
    ),
    (
        "10,000 tasks that wait for the model at once",
        "3,000 in tests/integration/engine/test_memory.py; 10,000 by hand: 14 kB each without the "
        "model's client, and the event loop late by 13 ms at the 99th percentile",
    ),
)
"""Rows of the plan of faults that `make chaos` does not run: where they are tried, or why not."""
