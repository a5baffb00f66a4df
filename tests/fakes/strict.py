"""What endpoints of OpenAI's protocol refuse, in the bodies that they refuse it with.

Each is a rule for `FakeLlm.refuses`. The texts are those that users of the real ones report.
"""

import json
import re
from itertools import pairwise
from typing import Any

from tests.fakes.llm import Refusal, Request

Json = dict[str, Any]


def _openai(message: str, *, param: str | None, code: str | None) -> Refusal:
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    return 400, {"error": error}


def openai_reasoning(request: Request) -> Refusal | None:
    """OpenAI's reasoning models."""
    for name in ("parallel_tool_calls", "max_tokens"):
        if name in request.body:
            text = f"Unsupported parameter: '{name}' is not supported with this model."
            if name == "max_tokens":
                text += " Use 'max_completion_tokens' instead."
            return _openai(text, param=name, code="unsupported_parameter")
    if request.body.get("temperature", 1) != 1:
        text = (
            "Unsupported value: 'temperature' does not support 0.2 with this model. Only the "
            "default (1) value is supported."
        )
        return _openai(text, param="temperature", code="unsupported_value")
    return None


def responses_only(request: Request) -> Refusal | None:
    """OpenAI's models that have no chat completions, also behind a gateway: 404."""
    if request.path.endswith("/responses"):
        return None
    text = "This model is only supported in v1/responses and not in v1/chat/completions."
    return 404, _openai(text, param="model", code=None)[1]


def azure_deployment(request: Request) -> Refusal | None:
    """A deployment of Azure OpenAI, of a version that does not know parallel tool calls."""
    is_there = request.path == "/openai/deployments/planner/chat/completions"
    if not is_there or request.query != {"api-version": "2024-10-21"}:
        return 404, {"error": {"code": "404", "message": "Resource not found"}}
    if request.headers.get("api-key") != "sk-of-a-test":
        text = "Access denied due to invalid subscription key or wrong API endpoint."
        return 401, {"error": {"code": "401", "message": text}}
    if "parallel_tool_calls" in request.body:
        text = "Unknown parameter: 'parallel_tool_calls'."
        return _openai(text, param="parallel_tool_calls", code="unknown_parameter")
    return None


def azure_v1(request: Request) -> Refusal | None:
    """Azure OpenAI's newer address, which takes what OpenAI's takes."""
    if request.path != "/openai/v1/chat/completions":
        return 404, {"error": {"code": "404", "message": "Resource not found"}}
    if request.headers.get("authorization") != "Bearer sk-of-a-test":
        return 401, {"error": {"code": "401", "message": "Access denied"}}
    return None


def _vllm(message: str) -> Refusal:
    error = {"object": "error", "type": "BadRequestError", "param": None, "code": 400}
    return 400, {**error, "message": message}


def vllm_alternating(request: Request) -> Refusal | None:
    """vLLM, of a release that forbids unknown fields, with a template that wants turns."""
    if "max_completion_tokens" in request.body:
        loc = "{'type': 'extra_forbidden', 'loc': ('body', 'max_completion_tokens'), "
        return _vllm(f"[{loc}'msg': 'Extra inputs are not permitted', 'input': 16000}}]")
    return None if _alternates(request.body["messages"]) else _vllm(_ALTERNATE)


_ALTERNATE = "Conversation roles must alternate user/assistant/user/assistant/..."


def _alternates(messages: list[Json]) -> bool:
    """As such templates count: neither the results of tools nor the calls of them."""
    told = [m for m in messages if m["role"] != "system" and not _is_about_tools(m)]
    roles = [message["role"] for message in told]
    return roles[0] == "user" and all(one != other for one, other in pairwise(roles))


def _is_about_tools(message: Json) -> bool:
    return message["role"] == "tool" or bool(message.get("tool_calls"))


def vllm_without_system(request: Request) -> Refusal | None:
    """vLLM with a template of Gemma's."""
    if any(message["role"] == "system" for message in request.body["messages"]):
        return _vllm("System role not supported")
    return vllm_alternating(request)


def mistral(request: Request) -> Refusal | None:
    """Mistral's own API."""
    if "max_completion_tokens" in request.body:
        complaint = {"type": "extra_forbidden", "loc": ["body", "max_completion_tokens"]}
        detail = [{**complaint, "msg": "Extra inputs are not permitted", "input": 16000}]
        return 422, {"object": "error", "message": {"detail": detail}, "code": None}
    messages = request.body["messages"]
    error = {"object": "error", "param": None}
    for before, message in pairwise(messages):
        if (before["role"], message["role"]) == ("tool", "user"):
            text, kind = "Unexpected role 'user' after role 'tool'", "invalid_request_message_order"
            return 400, {**error, "message": text, "type": kind, "code": "3230"}
    for call_id in _call_ids(messages):
        if not re.fullmatch("[a-zA-Z0-9]{9}", call_id):
            text = f"Tool call id was {call_id} but must be a-z, A-Z, 0-9, with a length of 9."
            return 400, {**error, "message": text, "type": "invalid_function_call", "code": "3280"}
    return None


def _call_ids(messages: list[Json]) -> list[str]:
    calls = [call["id"] for message in messages for call in message.get("tool_calls") or ()]
    return [*calls, *(m["tool_call_id"] for m in messages if m["role"] == "tool")]


def deepseek_thinking(request: Request) -> Refusal | None:
    """DeepSeek's API, whose models think unless they are told not to."""
    if request.body.get("tool_choice", "auto") not in ("auto", "none"):
        text = "Thinking mode does not support this tool_choice"
        return _openai(text, param=None, code="invalid_request_error")
    return None


_UNKNOWN = "Invalid JSON payload received. Unknown name"


def gemini(request: Request) -> Refusal | None:
    """Gemini's endpoint for OpenAI's clients: its body is a list."""
    text = ""
    if "parallel_tool_calls" in request.body:
        text = f'{_UNKNOWN} "parallel_tool_calls": Cannot find field.'
    elif "additionalProperties" in json.dumps(request.body["tools"]):
        place = "'tools[0].function_declarations[1].parameters'"
        text = f'{_UNKNOWN} "additionalProperties" at {place}: Cannot find field.'
    if not text:
        return None
    kind = "type.googleapis.com/google.rpc.BadRequest"
    details = [{"@type": kind, "fieldViolations": [{"description": text}]}]
    error = {"code": 400, "message": text, "status": "INVALID_ARGUMENT", "details": details}
    return 400, [{"error": error}]


def ollama(request: Request) -> Refusal | None:
    """Ollama, of a release that wants a text in every message."""
    if any(message.get("content") is None for message in request.body["messages"]):
        return _openai("invalid message content type: <nil>", param=None, code=None)
    return None


def litellm(request: Request) -> Refusal | None:
    """A LiteLLM proxy that does not drop parameters by itself."""
    for name in ("parallel_tool_calls", "tool_choice"):
        if name in request.body:
            text = (
                f"litellm.UnsupportedParamsError: ollama does not support parameters: ['{name}'], "
                "for model=planner. To drop these, set `litellm.drop_params=True`"
            )
            return 400, {"error": {"message": text, "type": "None", "param": "None", "code": "400"}}
    return None


def openrouter(request: Request) -> Refusal | None:
    """OpenRouter, where no provider of a model takes a forced tool: 404, not 400."""
    if "tool_choice" in request.body:
        text = (
            "No endpoints found that support the provided 'tool_choice' value. To learn more about "
            "provider routing, visit: https://openrouter.ai/docs/provider-routing"
        )
        return 404, {"error": {"message": text, "code": 404}}
    return None


def llama_cpp(request: Request) -> Refusal | None:
    """llama.cpp's server with a template that wants turns: its word comes with 500."""
    if _alternates(request.body["messages"]):
        return None
    text = f"Jinja Exception: {_ALTERNATE}"
    return 500, {"error": {"code": 500, "message": text, "type": "server_error"}}
