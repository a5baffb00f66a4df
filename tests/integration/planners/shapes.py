"""Answers with one call of `agent_crm`, each in the wire format that its provider documents."""

import json
from typing import Any

Json = dict[str, Any]

ARGS = {"name": "ACME"}
THOUGHT = "Register it first."
SIGNATURE = "U2lnbmVk"
"""Base64, as signatures are."""


def chat(*calls: Json, **message: Any) -> Json:
    """A chat completion in OpenAI's protocol: the message's own fields, and `calls` of tools."""
    said = {"role": "assistant", "content": None, "refusal": None, **message}
    said["tool_calls"] = [*calls]
    return {
        "id": "chat-1",
        "object": "chat.completion",
        "created": 1,
        "model": "stub-1",
        "system_fingerprint": None,
        "choices": [{"index": 0, "logprobs": None, "finish_reason": "tool_calls", "message": said}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14},
    }


def call(call_id: str = "call_1", *, arguments: str = json.dumps(ARGS), **fields: Any) -> Json:
    """A tool call of a chat completion, with fields of its endpoint's own."""
    function = {"name": "agent_crm", "arguments": arguments, **fields.pop("function", {})}
    return {"id": call_id, "type": "function", "index": 0, "function": function, **fields}


DETAILS = [
    {
        "type": "reasoning.text",
        "text": THOUGHT,
        "signature": SIGNATURE,
        "format": "anthropic-claude-v1",
        "index": 0,
    }
]
THINKING_CHUNKS = [
    {"type": "thinking", "thinking": [{"type": "text", "text": THOUGHT}]},
    {"type": "text", "text": "I register it."},
]
GOOGLE = {"google": {"thought_signature": SIGNATURE}}

ANTHROPIC_BLOCKS = [
    {"type": "thinking", "thinking": THOUGHT, "signature": SIGNATURE},
    {"type": "redacted_thinking", "data": "UmVkYWN0ZWQ="},
    {"type": "text", "text": "I register it."},
    {"type": "tool_use", "id": "toolu_1", "name": "agent_crm", "input": ARGS},
]
ANTHROPIC = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5",
    "content": ANTHROPIC_BLOCKS,
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": {"input_tokens": 11, "output_tokens": 3},
}

GEMINI_PARTS = [
    {"text": THOUGHT, "thought": True},
    {"text": "I register it.", "thoughtSignature": SIGNATURE},
    {"functionCall": {"name": "agent_crm", "args": ARGS}, "thoughtSignature": SIGNATURE},
    {"functionCall": {"name": "list_agents", "args": {}}},
]
GEMINI = {
    "candidates": [
        {
            "index": 0,
            "finishReason": "STOP",
            "content": {"role": "model", "parts": GEMINI_PARTS},
        }
    ],
    "usageMetadata": {"promptTokenCount": 11, "candidatesTokenCount": 3, "totalTokenCount": 14},
    "modelVersion": "gemini-3-pro-preview",
    "responseId": "r1",
}

OLLAMA = {
    "model": "qwen3",
    "created_at": "2030-01-01T00:00:00Z",
    "message": {
        "role": "assistant",
        "content": "",
        "thinking": THOUGHT,
        "tool_calls": [{"id": "call_1", "function": {"name": "agent_crm", "arguments": ARGS}}],
    },
    "done": True,
    "done_reason": "stop",
    "prompt_eval_count": 11,
    "eval_count": 3,
}

REASONING_ITEM = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [],
    "encrypted_content": SIGNATURE,
}
FUNCTION_ITEM = {
    "type": "function_call",
    "id": "fc_1",
    "call_id": "call_1",
    "name": "agent_crm",
    "arguments": json.dumps(ARGS),
    "status": "completed",
}
RESPONSES = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "status": "completed",
    "model": "gpt-5",
    "output": [REASONING_ITEM, FUNCTION_ITEM],
    "parallel_tool_calls": True,
    "tool_choice": "required",
    "tools": [],
    "usage": {
        "input_tokens": 11,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 14,
    },
}
