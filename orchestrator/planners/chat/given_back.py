"""Gives a model's earlier answers back to its endpoint: with all their fields, or as it takes them.

Endpoints of OpenAI's protocol add fields of their own to a message and to its tool calls. Some want
them back with the next request, some refuse what they sent themselves. Only a refusal tells which.
"""

import json
import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import openai
from langchain_core.exceptions import ModelInvalidRequestError
from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatResult
from langchain_openai.chat_models.base import BaseChatOpenAI

from orchestrator.domain.json import JsonObject
from orchestrator.planners.chat.failures import is_refused_request
from orchestrator.planners.chat.kept import (
    CALL_FIELDS,
    call_fields_of,
    fields_of,
    names_of,
    without,
)
from orchestrator.telemetry.logs import get_logger

Bound = Callable[..., Awaitable[AIMessage]]
"""A chat model together with its tools: a conversation in, and for one request more; the answer
out."""

REASONING = "reasoning_content"
"""Of each message with tool calls, thinking endpoints want it back; empty where there is none."""

log = get_logger(__name__)


class KeepsFields(BaseChatOpenAI):
    """`BaseChatOpenAI` that reads the fields it does not know, and sends them back.

    It keeps them in `additional_kwargs`; the base class drops them in both directions.
    """

    def _create_chat_result(
        self,
        response: dict[str, Any] | openai.BaseModel,
        generation_info: dict[str, Any] | None = None,
    ) -> ChatResult:
        result = super()._create_chat_result(response, generation_info)
        choices = getattr(response, "choices", None) or ()
        for choice, generation in zip(choices, result.generations, strict=False):
            _read_fields(choice.message.model_dump(warnings=False), generation.message)
        return result

    def _get_request_payload(
        self, input_: LanguageModelInput, *, stop: list[str] | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        messages = self._convert_input(input_).to_messages()
        payload = super()._get_request_payload(messages, stop=stop, **kwargs)
        # The Responses API has no messages, and its items come back as blocks of content.
        for message, wire in zip(messages, payload.get("messages") or (), strict=False):
            if isinstance(message, AIMessage):
                _write_fields(message, wire)
        return payload


def _read_fields(raw: JsonObject, message: BaseMessage) -> None:
    for name, value in fields_of(raw).items():
        message.additional_kwargs.setdefault(name, value)
    calls: Any = raw.get("tool_calls") or ()
    # LangChain puts those that it can't read behind the others.
    ordered = sorted(calls, key=lambda call: not _is_readable(call))
    if any(told := [call_fields_of(call) for call in ordered]):
        message.additional_kwargs[CALL_FIELDS] = told


def _is_readable(call: JsonObject) -> bool:
    function = call.get("function")
    arguments = function.get("arguments") if isinstance(function, dict) else None
    try:
        return isinstance(json.loads(str(arguments), strict=False), dict)
    except (ValueError, RecursionError):
        return False


def _write_fields(message: AIMessage, wire: dict[str, Any]) -> None:
    if isinstance(message.content, list):
        wire["content"] = message.content
    for name, value in message.additional_kwargs.items():
        if name not in wire and not name.startswith("__"):
            wire[name] = value
    given = message.additional_kwargs.get(CALL_FIELDS, ())
    for call, fields in zip(wire.get("tool_calls") or (), given, strict=False):
        call["function"].update(fields.get("function", {}))
        call.update({name: value for name, value in fields.items() if name != "function"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """How earlier answers are sent."""

    dropped: frozenset[str] | None = frozenset()
    """Fields that are not; None: nothing but text and calls."""
    is_filled: bool = False
    """An answer without reasoning says that it has none."""

    def apply(self, message: BaseMessage) -> BaseMessage:
        if not isinstance(message, AIMessage):
            return message
        if self.dropped is None or self.dropped & names_of(message):
            message = without(message, self.dropped)
        if self.is_filled and message.tool_calls:
            fields = {REASONING: "", **message.additional_kwargs}
            message = message.model_copy(update={"additional_kwargs": fields})
        return message


class GivenBack:
    """How one endpoint takes its answers back: as they came, until it refuses them.

    A request that is refused with them is sent in other ways before the refusal counts. What was
    refused by name and taken in another way is sent that way from then on.
    """

    def __init__(self) -> None:
        self._way = _Way()

    async def ask(self, bound: Bound, messages: list[BaseMessage], **more: Any) -> AIMessage:
        way = self._way
        try:
            return await bound([way.apply(message) for message in messages], **more)
        except Exception as error:
            if not _is_refused(error):
                raise
            refused, said = error, str(error)
        for other in _other_ways(way, messages, said=said):
            try:
                answer = await bound([other.apply(message) for message in messages], **more)
            except Exception as error:
                if not _is_refused(error):
                    raise
                continue
            self._learn(other, said=said)
            return answer
        raise refused

    def _learn(self, way: _Way, *, said: str) -> None:
        if way.dropped is None or way == self._way:
            return
        self._way = way
        log.warning(
            "the model's endpoint refused earlier answers as they came, and is sent them otherwise",
            without=sorted(way.dropped),
            empty_reasoning=way.is_filled,
            refusal=said[:200],
        )


def _is_refused(error: Exception) -> bool:
    # Some clients raise the class alone, without the answer of HTTP.
    return is_refused_request(error) or isinstance(error, ModelInvalidRequestError)


def _other_ways(way: _Way, messages: list[BaseMessage], *, said: str) -> Iterator[_Way]:
    answers = [message for message in messages if isinstance(message, AIMessage)]
    if not answers:
        return
    sent: set[str] = set().union(*map(names_of, answers))
    named = {name for name in sent if re.search(rf"\b{re.escape(name)}\b", said)}
    if named and way.dropped is not None:
        yield replace(way, dropped=way.dropped | named)
    if REASONING in said and not way.is_filled:
        yield replace(way, is_filled=True)
    if sent or any(isinstance(answer.content, list) for answer in answers):
        yield _Way(dropped=None)
