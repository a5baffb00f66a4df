"""OpenAI's /responses over an endpoint that knows chat completions: pure, both ways."""

from typing import Any

Json = dict[str, Any]


def as_chat(body: Json) -> Json:
    """The chat completion request that says the same."""
    tools = [{"type": "function", "function": tool} for tool in body.get("tools", ())]
    return {**body, "messages": [_message(item) for item in body["input"]], "tools": tools}


def _message(item: Json) -> Json:
    kind = item.get("type", "message")
    if kind == "function_call":
        function = {"name": item["name"], "arguments": item["arguments"]}
        call = {"id": item["call_id"], "type": "function", "function": function}
        return {"role": "assistant", "content": None, "tool_calls": [call]}
    if kind == "function_call_output":
        return {"role": "tool", "content": item["output"], "tool_call_id": item["call_id"]}
    content = item["content"]
    text = content if isinstance(content, str) else "".join(part["text"] for part in content)
    return {"role": item["role"], "content": text}


def as_response(completion: Json) -> Json:
    """The response that says the same as a chat completion."""
    message = completion["choices"][0]["message"]
    output: list[Json] = [
        {
            "type": "function_call",
            "id": f"fc_{call['id']}",
            "call_id": call["id"],
            "status": "completed",
            **call["function"],
        }
        for call in message.get("tool_calls", ())
    ]
    if message["content"]:
        text = {"type": "output_text", "text": message["content"], "annotations": []}
        said = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"}
        output.insert(0, {**said, "content": [text]})
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": "completed",
        "model": completion["model"],
        "output": output,
        "parallel_tool_calls": True,
        "tool_choice": "required",
        "tools": [],
        "usage": {
            "input_tokens": 100,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 10,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 110,
        },
    }
