"""An OpenAI-compatible endpoint that plans by rule, so that everything runs without a real model.

    python demo/llm/server.py --port 8100

It answers `POST /v1/chat/completions` (tools, usage counted, no streaming), `GET /v1/models` and
`GET /health`, and depends on nothing of the product.
"""

import argparse
import asyncio
import itertools
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

# As a plain file this is no part of a package.
sys.path.append(str(Path(__file__).resolve().parents[2]))

from demo.llm.rules import Json, ToolCall, plan

MODEL = "demo-planner"
CHARACTERS_PER_TOKEN = 4


class ChatRequest(BaseModel):
    """The part of a chat completion request that the rules read; everything else is let pass."""

    model: str = MODEL
    messages: list[dict[str, Any]] = Field(min_length=1)
    tools: list[dict[str, Any]] = Field(default_factory=list)
    stream: bool = False


def create_app(*, think_seconds: float) -> FastAPI:
    """The endpoint; each answer takes `think_seconds`, as a model's would."""
    app = FastAPI(title="Demo LLM", docs_url=None, redoc_url=None)
    numbers = itertools.count(1)

    @app.get("/health")
    async def health() -> Json:
        return {"ready": True, "model": MODEL}

    @app.get("/v1/models")
    async def models() -> Json:
        return {"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "demo"}]}

    @app.post("/v1/chat/completions")
    async def chat_completions(request: ChatRequest) -> JSONResponse:
        if request.stream:
            return _refusal("streaming is not supported here: send stream=false")
        await asyncio.sleep(think_seconds)
        return JSONResponse(answer(request, number=next(numbers)))

    return app


def _refusal(text: str) -> JSONResponse:
    error = {"message": text, "type": "invalid_request_error", "param": "stream", "code": None}
    return JSONResponse({"error": error}, status_code=400)


def answer(request: ChatRequest, *, number: int) -> Json:
    """The chat completion; `number` makes its ids unique."""
    message = _message(request, number=number)
    prompt = _tokens([request.messages, request.tools])
    completion = _tokens(message)
    return {
        "id": f"chatcmpl-demo-{number}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": request.model,
        "choices": [
            {
                "index": 0,
                "message": message,
                "finish_reason": "tool_calls" if message.get("tool_calls") else "stop",
            }
        ],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        },
    }


def _message(request: ChatRequest, *, number: int) -> Json:
    if not request.tools:
        text = "I plan by rule and need tools to choose from."
        return {"role": "assistant", "content": text}
    calls = plan(request.messages, request.tools)
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            _wire_call(call, call_id=f"call_{number}_{index}") for index, call in enumerate(calls)
        ],
    }


def _wire_call(call: ToolCall, *, call_id: str) -> Json:
    name, arguments = call
    return {
        "id": call_id,
        "type": "function",
        "function": {"name": name, "arguments": json.dumps(arguments)},
    }


def _tokens(value: object) -> int:
    return max(len(json.dumps(value)) // CHARACTERS_PER_TOKEN, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8100)
    parser.add_argument("--think-ms", type=int, default=0, help="how long an answer takes")
    options = parser.parse_args()
    # Uvicorn raises the signal again once it has closed; being stopped is no failure.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    uvicorn.run(
        create_app(think_seconds=options.think_ms / 1000),
        host=options.host,
        port=options.port,
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main()
