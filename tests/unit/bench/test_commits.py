from bench.commits import commits_between

BEFORE = """\
orchestrator_journal_commit_seconds_bucket{le="0.001"} 4.0
orchestrator_journal_commit_seconds_bucket{le="0.002"} 4.0
orchestrator_journal_commit_seconds_bucket{le="+Inf"} 4.0
orchestrator_journal_batch_steps_count 4.0
orchestrator_journal_batch_steps_sum 8.0
"""
AFTER = """\
orchestrator_journal_commit_seconds_bucket{le="0.001"} 4.0
orchestrator_journal_commit_seconds_bucket{le="0.002"} 14.0
orchestrator_journal_commit_seconds_bucket{le="+Inf"} 14.0
orchestrator_journal_batch_steps_count 14.0
orchestrator_journal_batch_steps_sum 58.0
"""


def test_only_what_was_committed_in_between_counts() -> None:
    commits = commits_between(BEFORE, AFTER)
    assert commits is not None
    assert commits.p50_ms == 1.5
    assert commits.steps_each == 5


def test_nothing_committed_is_no_figure() -> None:
    assert commits_between(AFTER, AFTER) is None
