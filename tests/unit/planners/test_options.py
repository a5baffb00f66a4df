"""Settings of the model: what is refused, and that the key is never shown."""

import subprocess
import sys

import pytest

from orchestrator.agents.http import model_http_client
from orchestrator.domain.errors import InvalidSettings
from orchestrator.planners.agentic.model import build_model
from orchestrator.planners.agentic.options import ModelOptions


@pytest.mark.parametrize("model", ["gpt-4.1-mini", "openai:", ":gpt", ""])
def test_a_model_without_provider_or_name_is_refused(model: str) -> None:
    with pytest.raises(InvalidSettings, match="expected provider:name"):
        ModelOptions(model=model)


def test_the_key_is_not_part_of_the_text_of_the_options() -> None:
    assert "sk-secret" not in repr(ModelOptions(api_key="sk-secret"))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (ModelOptions(), "OPENAI_API_KEY is not set"),
        (ModelOptions(model="groq:llama", api_key="sk-1234567"), "langchain-groq"),
        (ModelOptions(model="nobody:x", api_key="sk-1234567"), "Unsupported provider='nobody'"),
    ],
)
async def test_a_model_that_can_not_be_built_names_what_is_missing(
    options: ModelOptions, text: str
) -> None:
    async with model_http_client(timeout_seconds=1) as client:
        with pytest.raises(InvalidSettings, match=text):
            build_model(options, client=client)


def test_reading_options_does_not_load_langchain() -> None:
    code = (
        "import sys, orchestrator.planners.agentic.options; "
        "sys.exit(any(name.startswith('langchain') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
