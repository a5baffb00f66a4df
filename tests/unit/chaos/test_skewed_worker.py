"""A clock that is set off is off for the product: else the class of faults would try nothing."""

import subprocess
import sys

from bench.children import ROOT

LOOK = """
import time
from datetime import UTC, datetime
from chaos.skewed_worker import set_off
from orchestrator.bus import outgoing
before = time.time()
set_off(3600)
assert 3590 < time.time() - before < 3700
assert 3590 < (outgoing.datetime.now(UTC) - datetime.now(UTC)).total_seconds() < 3700
assert isinstance(datetime.now(UTC), outgoing.datetime)
assert type(outgoing.datetime.fromisoformat("2030-01-01T00:00:00Z")) is datetime
"""


def test_a_clock_that_is_set_off_is_off_for_the_product_and_still_gives_plain_times() -> None:
    """In a process of its own: nothing sets it right again."""
    subprocess.run([sys.executable, "-c", LOOK], cwd=ROOT, check=True)
