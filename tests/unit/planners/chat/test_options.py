"""Settings of the model: what is refused, and that the key is never shown."""

import subprocess
import sys
from dataclasses import replace

import pytest
from langchain_openai import ChatOpenAI

from orchestrator.agents.http import model_http_client
from orchestrator.domain.errors import InvalidSettings
from orchestrator.planners.chat.model import build_model
from orchestrator.planners.chat.options import ModelOptions


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
        "import sys, orchestrator.planners.chat.options; "
        "sys.exit(any(name.startswith('langchain') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


ADDRESSES: dict[str, tuple[str | None, str | None, dict[str, str], bool | None]] = {
    "none": (None, None, {}, None),
    "OpenAI's": ("https://api.openai.com/v1", "https://api.openai.com/v1", {}, None),
    "OpenAI's in Europe": (
        "https://eu.api.openai.com/v1/",
        "https://eu.api.openai.com/v1",
        {},
        None,
    ),
    "one's own": ("http://vllm:8000/v1/", "http://vllm:8000/v1", {}, False),
    "looks like OpenAI's": ("https://api.openai.com.example/v1",) * 2 + ({}, False),
    "Azure, as its portal shows it": (
        "https://x.openai.azure.com/openai/deployments/d/chat/completions?api-version=1",
        "https://x.openai.azure.com/openai/deployments/d",
        {"api-version": "1"},
        False,
    ),
    "Azure's responses": (
        "https://x.openai.azure.com/openai/responses?api-version=preview",
        "https://x.openai.azure.com/openai",
        {"api-version": "preview"},
        True,
    ),
    "an empty value": ("http://h/v1?a=&b=%20x", "http://h/v1", {"a": "", "b": " x"}, False),
}


@pytest.mark.parametrize("name", ADDRESSES)
def test_an_address_says_where_and_how_requests_go(name: str) -> None:
    url, endpoint, query, uses_responses = ADDRESSES[name]
    options = ModelOptions(base_url=url, api_key="k")
    assert (options.endpoint, options.query) == (endpoint, query)
    assert options.uses_responses is uses_responses
    assert options.headers == ({"api-key": "k"} if "/deployments/" in (url or "") else {})


def test_the_dialect_wins_over_the_address() -> None:
    url = "https://api.openai.com/v1"
    chat = ModelOptions(base_url=url, dialect=frozenset({"chat-completions"}))
    own = ModelOptions(base_url="http://h/v1", dialect=frozenset({"responses", "api-key-header"}))
    assert (chat.uses_responses, own.uses_responses) == (False, True)
    assert (own.headers, replace(own, api_key="k").headers) == ({}, {"api-key": "k"})


@pytest.mark.parametrize("dialect", [{"max_tokens"}, {"responses", "chat-completions"}])
def test_a_dialect_of_nobody_is_refused(dialect: set[str]) -> None:
    with pytest.raises(InvalidSettings, match="expected some of merge-messages, "):
        ModelOptions(dialect=frozenset(dialect))


NAMES = {"openai:gpt-5-codex": True, "openai:gpt-5-pro": True, "openai:gpt-4.1-mini": False}


@pytest.mark.parametrize("name", NAMES)
async def test_at_openai_itself_a_models_name_decides_the_path_unless_it_is_said(name: str) -> None:
    async with model_http_client(timeout_seconds=1) as client:
        for url in (None, "https://api.openai.com/v1"):
            options = ModelOptions(model=name, api_key="k", base_url=url)
            assert isinstance(model := build_model(options, client=client), ChatOpenAI)
            assert bool(model.use_responses_api) is NAMES[name]
            said = replace(options, dialect=frozenset({"chat-completions"}))
            assert isinstance(model := build_model(said, client=client), ChatOpenAI)
            assert model.use_responses_api is False
