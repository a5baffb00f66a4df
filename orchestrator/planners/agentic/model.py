"""Builds the chat model and asks it: one request for one turn, within a deadline.

Nothing in here tries again: a failure is `ModelFailed`, and the engine decides when to come back.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import httpx
from langchain.chat_models import init_chat_model
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import RunnableBinding
from langchain_openai import ChatOpenAI
from langchain_openai.chat_models.base import BaseChatOpenAI
from langsmith.utils import tracing_is_enabled

from orchestrator.domain.errors import InvalidSettings
from orchestrator.domain.json import JsonObject
from orchestrator.planners.agentic.answer import BROKEN_ENDS, end_of, read_usage
from orchestrator.planners.agentic.completion import read_completion
from orchestrator.planners.agentic.failures import (
    is_from_model,
    is_refused_request,
    is_unanswered,
    model_failed,
)
from orchestrator.planners.agentic.options import ModelOptions
from orchestrator.planners.agentic.refusal import NoCompletion, broken_off
from orchestrator.planners.agentic.reserve import Reserved
from orchestrator.planners.planner import Unanswered

Bound = Callable[..., Awaitable[AIMessage]]
"""A chat model together with its tools: a conversation in, and for one request more; the answer
out."""

# Reasoning models of this family refuse the parameter.
_SINGLE_CALL_MODELS = re.compile(r"^o\d")


class LeanChatOpenAI(ChatOpenAI):
    """`ChatOpenAI` whose CPU hardly grows with the conversation.

    The SDK walks every message of its typed parameters, 0.2 ms each; what goes out as
    `extra_body` it leaves alone, and the bytes on the wire are the same.
    """

    def _get_request_payload(
        self, input_: LanguageModelInput, *, stop: list[str] | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        payload = super()._get_request_payload(input_, stop=stop, **kwargs)
        if "messages" not in payload:  # the Responses API
            return payload
        bulk = {name: payload.pop(name) for name in ("messages", "tools") if name in payload}
        extra = payload.get("extra_body") or {}
        return {**payload, "messages": [], "extra_body": {**extra, **bulk}}

    async def answer(self, messages: list[BaseMessage], **bound: Any) -> AIMessage:
        """What `ainvoke` answers, without its callbacks: they cost a fifth of a task's CPU."""
        result = await self._agenerate(messages, **bound)
        (generation, *_) = result.generations
        message, info = generation.message, generation.generation_info or {}
        assert isinstance(message, AIMessage)
        told = {**(result.llm_output or {}), **info, **message.response_metadata}
        message.response_metadata = told
        return message

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        """Reads the answer here: the base class fails for what is wrong beside a good one.

        It also hands each to a thread, which takes a tenth of a turn's CPU.
        """
        payload = self._get_request_payload(messages, stop=stop, **kwargs)
        if "messages" not in payload or "response_format" in payload:
            return await super()._agenerate(messages, stop, run_manager, **kwargs)
        raw = await self.async_client.with_raw_response.create(**payload)
        message = _read(raw.http_response)
        return ChatResult(generations=[ChatGeneration(message=message)])


def _read(response: httpx.Response) -> AIMessage:
    try:
        return read_completion(response.status_code, response.content)
    except NoCompletion as error:
        error.response = response
        raise


def build_model(options: ModelOptions, *, client: httpx.AsyncClient) -> BaseChatModel:
    """The model that `options` name; `client` (the caller's to close) carries OpenAI's requests.

    Raises:
        InvalidSettings: the provider is unknown, its package or key is missing, or it refuses
            an option.
    """
    if options.provider == "openai":
        return _openai_model(options, client=client)
    given: dict[str, Any] = {
        "api_key": options.api_key,
        "base_url": options.base_url,
        "temperature": options.temperature,
        "max_tokens": options.max_output_tokens,
    }
    try:
        model: BaseChatModel = init_chat_model(
            options.name,
            model_provider=options.provider,
            max_retries=0,
            timeout=options.timeout_seconds,
            **{name: value for name, value in given.items() if value is not None},
        )
        return model  # noqa: TRY300
    except ImportError as error:
        raise InvalidSettings(f"LLM_MODEL is {options.model!r}, but: {error}") from error
    except (ValueError, TypeError) as error:
        raise InvalidSettings(_refused(options, error)) from error


def _openai_model(options: ModelOptions, *, client: httpx.AsyncClient) -> ChatOpenAI:
    key = options.api_key
    if key is None and options.base_url is None:
        raise InvalidSettings(
            f"OPENAI_API_KEY is not set; LLM_MODEL {options.model!r} needs it "
            "(or OPENAI_BASE_URL, for an endpoint that asks for no key)"
        )
    given = {"temperature": options.temperature, "max_tokens": options.max_output_tokens}
    try:
        return LeanChatOpenAI(
            model=options.name,
            api_key=key or "none",
            base_url=options.base_url or "https://api.openai.com/v1",
            timeout=options.timeout_seconds,
            max_retries=0,
            http_async_client=client,
            **{name: value for name, value in given.items() if value is not None},
        )
    except (ValueError, TypeError) as error:
        raise InvalidSettings(_refused(options, error)) from error


def _refused(options: ModelOptions, error: Exception) -> str:
    problem = " ".join(str(error).split())
    text = f"LLM_MODEL is {options.model!r}, and its client refuses its options: {problem}"
    return text.replace(options.api_key, "[secret]") if options.api_key else text


def bind(model: BaseChatModel, tools: Sequence[JsonObject], *, options: ModelOptions) -> Bound:
    """The model, made to answer with one or more of `tools`."""
    parallel: dict[str, Any] = {}
    if isinstance(model, BaseChatOpenAI) and not _SINGLE_CALL_MODELS.match(options.name):
        parallel = {"parallel_tool_calls": True}
    bound = model.bind_tools(list(tools), tool_choice="any", **parallel)
    # The only callbacks that a turn can have here are LangSmith's, which the environment asks for.
    if (
        isinstance(model, LeanChatOpenAI)
        and isinstance(bound, RunnableBinding)
        and not tracing_is_enabled()
    ):
        return partial(model.answer, **bound.kwargs)
    return bound.ainvoke


def can_bound(model: BaseChatModel) -> bool:
    """Whether a single request can say how long its answer may be: some clients refuse it there."""
    return "max_tokens" in type(model).model_fields


async def ask(
    bound: Bound,
    messages: Sequence[BaseMessage],
    *,
    options: ModelOptions,
    reserved: Reserved,
) -> AIMessage:
    """The model's answer, no longer than what is set aside for it where that has to be said.

    Raises:
        ModelFailed: there is none.
    """
    try:
        async with asyncio.timeout(options.timeout_seconds):
            answer = await _bounded(bound, list(messages), reserved.max_output_tokens)
            return _whole(answer)
    except Exception as error:
        if not is_from_model(error, options=options):
            raise
        failed = model_failed(error, options=options)
        if reserved.has_budget and is_unanswered(error):
            usage, cost_micros = reserved.usage, reserved.cost_micros
            raise Unanswered(failed, usage=usage, cost_micros=cost_micros) from error
        raise failed from error


def _whole(answer: AIMessage) -> AIMessage:
    """The answer, where it is one.

    Raises:
        NoCompletion: it broke on its way, or it is what a client makes of a body that says nothing.
    """
    end, usage = end_of(answer), read_usage(answer)
    parts = (answer.content, answer.tool_calls, answer.invalid_tool_calls, answer.additional_kwargs)
    if end in BROKEN_ENDS or not (end or usage.total or any(parts)):
        raise NoCompletion(broken_off(None, reason=end))
    return answer


async def _bounded(bound: Bound, messages: list[BaseMessage], most: int | None) -> AIMessage:
    """An answer of so many tokens at most, unless the endpoint refuses to be told.

    Some refuse a bound that is beyond their model's, or with the prompt beyond its window.
    """
    if most is None:
        return await bound(messages)
    try:
        return await bound(messages, max_tokens=most)
    except Exception as error:
        if not is_refused_request(error):
            raise
        return await bound(messages)
