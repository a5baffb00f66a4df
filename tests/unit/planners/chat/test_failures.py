"""What a model's client raises, as the product tells it."""

from orchestrator.planners.chat.failures import model_failed
from orchestrator.planners.chat.options import ModelOptions

OPTIONS = ModelOptions(model="openai:fake", api_key="sk-of-a-test")


def test_what_postgresql_would_refuse_is_not_in_a_models_error() -> None:
    """A gateway that cuts its text inside an emoji leaves half of one."""
    failed = model_failed(OSError("overloaded \x00 \ud83d"), options=OPTIONS)
    assert failed.retryable
    assert "overloaded" in str(failed)
    assert "\x00" not in str(failed)
    str(failed).encode()


def test_a_key_that_is_echoed_where_a_long_error_is_cut_is_blanked_before_the_cut() -> None:
    failed = model_failed(OSError("x" * 395 + " sk-of-a-test"), options=OPTIONS)
    assert "sk-" not in str(failed)
    assert "…" in str(failed)
