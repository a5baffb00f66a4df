"""OpenAI's chat completions as a stub reads and writes them (pure).

A task is known by its id in brackets at the start of its description, a turn by the number of
decisions that the conversation holds: the same turn asked for twice is the same journaled decision.
"""

import re
import time
from itertools import pairwise
from typing import Any

from orchestrator.planners.agentic.prompt import USE_A_TOOL

Json = dict[str, Any]

_TASK_ID = re.compile(r"Task:\n\[([^\]]+)\]")


def task_of(messages: list[Json]) -> str:
    """The id of the task that is asked about; empty where none is named."""
    first = next((message for message in messages if message["role"] == "user"), None)
    named = _TASK_ID.search(str(first["content"])) if first else None
    return named[1] if named else ""


def turn_of(messages: list[Json]) -> int:
    """Decisions that the journal held. An empty answer stands there by its reproof alone."""
    answers = [message for message in messages if message["role"] == "assistant"]
    empty = [
        message
        for before, message in pairwise(messages)
        if message["content"] == USE_A_TOOL and before["role"] != "assistant"
    ]
    return len(answers) + len(empty)


def completion(
    *, number: int, content: str | None = None, tool_calls: tuple[tuple[str, str], ...] = ()
) -> Json:
    """An answer; tools come with their arguments as text."""
    message: Json = {"role": "assistant", "content": content}
    if tool_calls:
        message["tool_calls"] = [
            {
                "id": f"call_{number}_{index}",
                "type": "function",
                "function": {"name": tool, "arguments": arguments},
            }
            for index, (tool, arguments) in enumerate(tool_calls)
        ]
    return {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": "fake",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
    }
