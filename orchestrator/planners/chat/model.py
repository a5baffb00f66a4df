"""Builds the chat model and asks it for one turn, within a deadline.

A request that its endpoint refuses for its dialect is changed and sent again. Nothing else is tried
again in here: a failure is `ModelFailed`, and the engine decides when to come back.
"""

import asyncio
import json
import math
import types
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
from langchain.chat_models import init_chat_model
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import RunnableBinding
from langchain_openai import ChatOpenAI
from langchain_openai.chat_models.base import (
    BaseChatOpenAI,
    _construct_lc_result_from_responses_api,
)
from langsmith.utils import tracing_is_enabled

from orchestrator.domain.errors import InvalidSettings
from orchestrator.domain.json import JsonObject
from orchestrator.planners.chat.answer import BROKEN_ENDS, end_of, read_usage
from orchestrator.planners.chat.completion import read_arguments, read_completion
from orchestrator.planners.chat.dialect import (
    SYSTEM_ROLE,
    Dialect,
    arranged,
    asked_for,
    bound_names,
    spoken,
)
from orchestrator.planners.chat.failures import (
    is_from_model,
    is_refused_request,
    is_unanswered,
    model_failed,
)
from orchestrator.planners.chat.given_back import Bound, KeepsFields
from orchestrator.planners.chat.options import DIALECT, ModelOptions
from orchestrator.planners.chat.refusal import NoCompletion, broken_off, judged
from orchestrator.planners.chat.reserve import Reserved
from orchestrator.planners.planner import Unanswered
from orchestrator.telemetry.logs import get_logger

log = get_logger(__name__)

_RESPONSES = "_responses"
"""A field of requests under way that says where they go."""
REFUSED_PART = "the model endpoint refused a part of a request; later requests are changed"
_REFUSALS = frozenset({400, 404, 422, 500})
"""Statuses under which servers name what they don't take; a chat template's word comes with 500."""

_TIMEOUT_UNITS = {"openrouter": 1000}
"""How many units of its timeout a provider's client counts in a second, where it is not one."""


class LeanChatOpenAI(KeepsFields, ChatOpenAI):
    """`ChatOpenAI` whose CPU hardly grows with the conversation.

    The SDK walks every message of its typed parameters, 0.2 ms each; what goes out as
    `extra_body` it leaves alone, and the bytes on the wire are the same.
    """

    def _get_request_payload(
        self, input_: LanguageModelInput, *, stop: list[str] | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        dialect: Dialect = kwargs.pop("dialect", frozenset())
        kwargs[_RESPONSES] = "responses" in dialect
        payload = spoken(super()._get_request_payload(input_, stop=stop, **kwargs), dialect)
        if "messages" not in payload:  # the Responses API
            return payload
        bulk = {name: payload.pop(name) for name in ("messages", "tools") if name in payload}
        extra = payload.get("extra_body") or {}
        return {**payload, "messages": [], "extra_body": {**extra, **bulk}}

    def _use_responses_api(self, payload: dict[str, Any]) -> bool:
        return payload.pop(_RESPONSES, False) or super()._use_responses_api(payload)

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
        if "input" in payload:
            raw = await self.root_async_client.responses.with_raw_response.create(**payload)
            return _read_response(raw, output_version=self.output_version)
        if "response_format" in payload:
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


def _read_response(raw: Any, *, output_version: str | None) -> ChatResult:
    """An answer of /responses."""
    response: httpx.Response = raw.http_response
    try:
        told = raw.parse()
        for item in told.output:
            if item.type == "function_call":
                arguments = read_arguments(item.arguments)
                is_object = isinstance(arguments, dict)
                item.arguments = json.dumps(arguments) if is_object else f"no object: {arguments}"
        result = _construct_lc_result_from_responses_api(told, output_version=output_version)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        failed = NoCompletion(judged(response.status_code, response.text))
        failed.response = response
        raise failed from error
    if told.incomplete_details is not None:
        reason = told.incomplete_details.reason
        end = "length" if reason == "max_output_tokens" else reason
        result.generations[0].message.response_metadata["finish_reason"] = end
    return result


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
    given = {name: value for name, value in given.items() if value is not None}
    # Some take whole numbers only. The deadline of a turn is `ask`'s: this only ends what it left.
    timeout = math.ceil(options.timeout_seconds * _TIMEOUT_UNITS.get(options.provider, 1))
    given |= {"max_retries": 0, "timeout": timeout}
    try:
        model: BaseChatModel = init_chat_model(
            options.name, model_provider=options.provider, **given
        )
        _never_retries(model)
        return _keeping(type(model))(model=options.name, **given) if _drops(model) else model
    except ImportError as error:
        raise InvalidSettings(f"LLM_MODEL is {options.model!r}, but: {error}") from error
    except (ValueError, TypeError) as error:
        raise InvalidSettings(_refused(options, error)) from error


def _never_retries(model: BaseChatModel) -> None:
    """ChatOpenRouter leaves its SDK's own retries on where it is told to make none."""
    sdk = getattr(getattr(model, "client", None), "sdk_configuration", None)
    if sdk is not None:
        sdk.retry_config = None


def _drops(model: BaseChatModel) -> bool:
    """Whether it speaks OpenAI's protocol and loses the fields that it does not know."""
    return isinstance(model, BaseChatOpenAI) and not isinstance(model, KeepsFields)


def _keeping(client: type[BaseChatModel]) -> type[BaseChatModel]:
    return types.new_class(client.__name__, (KeepsFields, client))


def _openai_model(options: ModelOptions, *, client: httpx.AsyncClient) -> ChatOpenAI:
    key = options.api_key
    if key is None and options.base_url is None:
        raise InvalidSettings(
            f"OPENAI_API_KEY is not set; LLM_MODEL {options.model!r} needs it "
            "(or OPENAI_BASE_URL, for an endpoint that asks for no key)"
        )
    given = {"temperature": options.temperature, "max_tokens": options.max_output_tokens}
    try:
        model = LeanChatOpenAI(
            model=options.name,
            api_key=key or "none",
            base_url=options.endpoint or "https://api.openai.com/v1",
            default_query=options.query,
            default_headers=options.headers,
            use_responses_api=options.uses_responses,
            timeout=options.timeout_seconds,
            max_retries=0,
            http_async_client=client,
            **{name: value for name, value in given.items() if value is not None},
        )
        # For some names the client chooses one of its own, or leaves ours out without a word.
        model.temperature = options.temperature
        return model  # noqa: TRY300
    except (ValueError, TypeError) as error:
        raise InvalidSettings(_refused(options, error)) from error


def _refused(options: ModelOptions, error: Exception) -> str:
    problem = " ".join(str(error).split())
    text = f"LLM_MODEL is {options.model!r}, and its client refuses its options: {problem}"
    return text.replace(options.api_key, "[secret]") if options.api_key else text


class Endpoint:
    """In which dialect one endpoint is spoken to: what the settings say, and what was learned."""

    def __init__(self, options: ModelOptions) -> None:
        own = frozenset() if options.is_openais_own else frozenset({SYSTEM_ROLE})
        self.dialect: Dialect = options.dialect | own
        self._options = options

    def sent(self, fields: dict[str, Any], dialect: Dialect) -> set[str]:
        """Which optional fields a request with `fields` has."""
        options = self._options
        sent = {"tool_choice", "parallel_tool_calls"} & fields.keys()
        if options.temperature is not None:
            sent.add("temperature")
        if options.max_output_tokens is not None or "max_tokens" in fields:
            sent.update(bound_names(dialect))
        return sent

    def remember(self, dialect: Dialect) -> None:
        """Every later request is made so: with this dialect one was answered."""
        new, self.dialect = dialect - self.dialect, self.dialect | dialect
        for switch in sorted(new):
            log.warning(
                REFUSED_PART,
                endpoint=self._options.endpoint or self._options.provider,
                switch=switch,
                change=DIALECT[switch],
                setting=f"ORCHESTRATOR_MODEL_DIALECT={','.join(sorted(self.dialect & {*DIALECT}))}",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Speaker:
    """A model with its tools, asked in the dialect of its endpoint."""

    send: Callable[..., Awaitable[AIMessage]]
    fields: dict[str, Any]
    endpoint: Endpoint
    is_openais: bool
    """It makes the request's body itself, and there knows what becomes of the dialect."""

    async def __call__(self, messages: list[BaseMessage], **more: Any) -> AIMessage:
        """An answer. A refusal that another dialect mends is no failure: it costs no attempt."""
        fields = {**self.fields, **more}
        dialect = self.endpoint.dialect
        while True:
            request = {**fields, "dialect": dialect} if self.is_openais else spoken(fields, dialect)
            try:
                answer = await self.send(arranged(messages, dialect), **request)
            except Exception as error:
                sent = self.endpoint.sent(fields, dialect)
                switch = asked_for(_refusal(error), sent=sent, dialect=dialect)
                if switch is None:
                    raise
                dialect |= {switch}
            else:
                self.endpoint.remember(dialect)
                return answer


def _refusal(error: BaseException | None) -> str:
    """What an endpoint says that refused a request; empty where it refused none."""
    while error is not None:
        # Some gateways refuse with 200, and the status in the body.
        if isinstance(error, NoCompletion) and error.refusal.status in _REFUSALS:
            return str(getattr(error.response, "text", ""))
        # OpenAI's errors hold the answer, those of other packages may be it.
        for source in (getattr(error, "response", None), error):
            if getattr(source, "status_code", None) in _REFUSALS:
                bodies = (getattr(source, name, None) for name in ("text", "body"))
                return next((body for body in bodies if isinstance(body, str)), str(error))
        error = error.__cause__
    return ""


def bind(
    model: BaseChatModel,
    tools: Sequence[JsonObject],
    *,
    options: ModelOptions,
    endpoint: Endpoint | None = None,
) -> Bound:
    """The model, made to answer with one or more of `tools`."""
    parallel = {"parallel_tool_calls": True} if isinstance(model, BaseChatOpenAI) else {}
    bound = model.bind_tools(list(tools), tool_choice="any", **parallel)
    assert isinstance(bound, RunnableBinding)
    send: Callable[..., Awaitable[AIMessage]] = bound.bound.ainvoke
    # The only callbacks that a turn can have here are LangSmith's, which the environment asks for.
    if isinstance(model, LeanChatOpenAI) and not tracing_is_enabled():
        send = model.answer
    return _Speaker(
        send=send,
        fields=dict(bound.kwargs),
        endpoint=endpoint or Endpoint(options),
        is_openais=isinstance(model, LeanChatOpenAI),
    )


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
