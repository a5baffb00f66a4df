#!/usr/bin/env bash
# langchain-openai loses the tool calls of a message whose role is not "assistant".
#
# Expected: the message of a choice is the model's, whatever its role says: a completion has no other.
#   Gateways in front of Gemini send "role": "model".
# Seen: the answer is a ChatMessage with the text alone. Its tool calls are gone, and nothing is raised
#   or logged: an agent takes the turn for one without a decision.
# Versions: langchain-openai 1.7.3, langchain-core 1.7.2, openai 3.52.0.
# What to do: read the completion yourself, or set the role to "assistant" before LangChain reads it.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check \
    langchain-openai==1.7.3 langchain-core==1.7.2 openai==3.52.0
cat >"$dir/try.py" <<'PYTHON'
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from langchain_openai import ChatOpenAI

CALL = {"id": "call_1", "type": "function", "function": {"name": "t", "arguments": "{}"}}


def answer(role):
    message = {"role": role, "content": "I call t.", "tool_calls": [CALL]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [choice],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }


class Handler(BaseHTTPRequestHandler):
    role = "assistant"

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps(answer(Handler.role)).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


server = HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
model = ChatOpenAI(
    model="m", api_key="k", base_url=f"http://127.0.0.1:{server.server_port}/v1", max_retries=0
)
seen = {}
for Handler.role in ("assistant", "model"):
    message = model.invoke("Call t.")
    seen[Handler.role] = (type(message).__name__, len(getattr(message, "tool_calls", [])))
print(seen)
if seen != {"assistant": ("AIMessage", 1), "model": ("ChatMessage", 0)}:
    sys.exit("the behaviour has changed")
PYTHON
"$dir/venv/bin/python" "$dir/try.py"
