#!/usr/bin/env bash
# langchain-deepseek reads reasoning_content and never sends it back.
#
# Expected: an AIMessage that ChatDeepSeek made goes back as it came, so that a conversation with tool
#   calls can go on. Thinking models of DeepSeek answer 400 ("The `reasoning_content` in the thinking
#   mode must be passed back to the API") where it is missing.
# Seen: ChatDeepSeek puts it into additional_kwargs["reasoning_content"], and the second request, with
#   that same message in it, has no reasoning_content: the base class drops what it does not know.
# Versions: langchain-deepseek 1.1.1, langchain-openai 1.7.3, langchain-core 1.7.2, openai 3.52.0.
# What to do: add the field to the assistant's messages in a subclass's _get_request_payload.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check \
    langchain-deepseek==1.1.1 langchain-openai==1.7.3 langchain-core==1.7.2 openai==3.52.0
cat >"$dir/try.py" <<'PYTHON'
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_deepseek import ChatDeepSeek

CALL = {"id": "call_1", "type": "function", "function": {"name": "t", "arguments": "{}"}}
SAID = {
    "role": "assistant",
    "content": "",
    "reasoning_content": "I call t.",
    "tool_calls": [CALL],
}
ANSWER = {
    "id": "1",
    "object": "chat.completion",
    "created": 1,
    "model": "deepseek-reasoner",
    "choices": [{"index": 0, "finish_reason": "tool_calls", "message": SAID}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}
requests = []


class Endpoint(BaseHTTPRequestHandler):
    def do_POST(self):
        requests.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        body = json.dumps(ANSWER).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", 0), Endpoint)
threading.Thread(target=server.serve_forever, daemon=True).start()
model = ChatDeepSeek(
    model="deepseek-reasoner",
    api_key="key",
    base_url=f"http://127.0.0.1:{server.server_port}",
    max_retries=0,
)
said = model.invoke([HumanMessage("go")])
model.invoke([HumanMessage("go"), said, ToolMessage("done", tool_call_id="call_1")])
server.shutdown()
read = said.additional_kwargs.get("reasoning_content")
sent = requests[1]["messages"][1]
print("read from the answer:", read)
print("fields of the assistant's message in the next request:", sorted(sent))
assert read == "I call t.", "it is not read any more"
assert "reasoning_content" not in sent, "it is sent back now"
PYTHON
"$dir/venv/bin/python" "$dir/try.py"
