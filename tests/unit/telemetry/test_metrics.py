from orchestrator.telemetry import metrics


def test_the_exposition_holds_what_was_counted() -> None:
    metrics.MESSAGES.labels("tasks", "accepted").inc()
    metrics.TOKEN_USAGE.labels("input", "model", "openai").observe(100)
    text = metrics.exposition().decode()
    assert 'orchestrator_messages_total{result="accepted",topic="tasks"}' in text
    assert "gen_ai_client_token_usage_bucket" in text
