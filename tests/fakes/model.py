"""A chat model that answers from a script and remembers what it was asked."""

from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from pydantic import Field, SkipValidation


class ScriptedModel(BaseChatModel):
    """Gives `script` in order, raising what is an exception; at its end it fails the test."""

    script: list[SkipValidation[AIMessage | Exception]]
    requests: list[list[BaseMessage]] = Field(default_factory=list)
    """The messages of each request."""
    bound: list[dict[str, Any]] = Field(default_factory=list)
    """What `bind_tools` was given, once a binding."""
    max_tokens: int | None = None
    bounds: list[int | None] = Field(default_factory=list)
    """How long the answer to each request might be, as the request said."""
    choices: list[object] = Field(default_factory=list)
    """Whether each request demanded a tool."""

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        self.bound.append({"tools": list(tools), "tool_choice": tool_choice, **kwargs})
        return self.bind(tool_choice=tool_choice)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        self.requests.append(messages)
        assert self.script, "the script has no more answers"
        answer = self.script.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return ChatResult(generations=[ChatGeneration(message=answer)])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        self.bounds.append(kwargs.get("max_tokens"))
        self.choices.append(kwargs.get("tool_choice"))
        return self._generate(messages, stop)


def tool_calls(*calls: tuple[str, dict[str, Any]], tokens: tuple[int, int] = (10, 5)) -> AIMessage:
    """An answer with these calls, `(tool, arguments)`, whose ids are `c1`, `c2`, …"""
    return AIMessage(
        content="",
        tool_calls=[
            {"name": name, "args": args, "id": f"c{number}", "type": "tool_call"}
            for number, (name, args) in enumerate(calls, start=1)
        ],
        usage_metadata=UsageMetadata(
            input_tokens=tokens[0], output_tokens=tokens[1], total_tokens=sum(tokens)
        ),
    )


def broken_call(tool: str, arguments: str) -> AIMessage:
    """An answer whose only call has arguments that are not JSON."""
    return AIMessage(
        content="",
        invalid_tool_calls=[
            {
                "name": tool,
                "args": arguments,
                "id": "c1",
                "error": "not JSON",
                "type": "invalid_tool_call",
            }
        ],
    )
