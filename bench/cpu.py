"""CPU seconds, user and system, of processes and all that they started (Linux; else unknown)."""

import os
from pathlib import Path

from orchestrator.local.guard import descendants

_PROC = Path("/proc")
# Behind the name in brackets: state is field 0, utime 11, stime 12, those of ended children 13, 14.
_TIMES = slice(11, 15)


def tree_cpu_seconds(pid: int) -> float:
    """What the process, its descendants and its ended children have used; NaN where unknown."""
    if not _PROC.is_dir():
        return float("nan")
    ticks = sum(_ticks(each) for each in (pid, *descendants(pid)))
    return ticks / os.sysconf("SC_CLK_TCK")


def _ticks(pid: int) -> int:
    try:
        _, _, fields = (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")
    except OSError:  # it ended meanwhile: its parent has its time
        return 0
    return sum(map(int, fields.split()[_TIMES]))
