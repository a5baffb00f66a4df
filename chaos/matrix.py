"""All classes of faults, in the order in which they are run and told; and the rows not run here."""

from chaos.fault import Fault
from chaos.faults import crash_loop, kafka, postgres, workers

MATRIX: tuple[Fault, ...] = (
    workers.KILLED,
    workers.FROZEN,
    workers.TAKEN_OVER,
    workers.REBORN,
    workers.ROLLED,
    workers.REBALANCED,
    crash_loop.FAULT,
    postgres.CRASHED,
    postgres.CUT_OFF,
    postgres.FROZEN,
    postgres.AWAY,
    postgres.LATE,
    kafka.CRASHED,
    kafka.FROZEN,
    kafka.AWAY,
    kafka.LATE,
)
