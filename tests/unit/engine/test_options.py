"""How long a worker may be silent, and which options make no sense."""

from datetime import timedelta

import pytest

from orchestrator.domain.errors import InvalidSettings
from orchestrator.engine.options import EngineOptions


def test_a_worker_acts_no_more_before_its_tasks_may_have_a_new_owner() -> None:
    options = EngineOptions(worker_name="w", lease=timedelta(seconds=10))
    assert options.heartbeat == timedelta(seconds=2.5)
    assert options.fence == timedelta(seconds=7)
    assert 2 * options.heartbeat < options.fence < options.lease


def test_a_heartbeat_that_gets_no_answer_leaves_time_for_another() -> None:
    options = EngineOptions(worker_name="w", lease=timedelta(seconds=10))
    assert options.heartbeat + options.heartbeat_patience < options.fence * 0.8


def test_a_worker_runs_at_least_one_task() -> None:
    with pytest.raises(InvalidSettings, match="concurrency 0 must be at least 1"):
        EngineOptions(worker_name="w", concurrency=0)


def test_a_lease_lasts_at_least_a_second() -> None:
    with pytest.raises(InvalidSettings, match=r"lease 0:00:00\.900000 must be at least one second"):
        EngineOptions(worker_name="w", lease=timedelta(milliseconds=900))
