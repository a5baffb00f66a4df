#!/usr/bin/env bash
# langchain-openrouter with max_retries=0 retries all the same.
#
# Expected: the field's own documentation says "Set to 0 to disable retries", so one invoke is one
#   request, and a 503 is raised at once.
# Seen: with 0 the package hands no retry configuration to the openrouter SDK, whose default is then
#   in force: a 5xx is asked for again with growing pauses, for up to an hour. The example below ends
#   only because the fourth answer is a good one.
# Versions: langchain-openrouter 0.2.9, openrouter 0.10.8, langchain-core 1.7.2.
# What to do: set model.client.sdk_configuration.retry_config = None after building the model.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check \
    langchain-openrouter==0.2.9 openrouter==0.10.8 langchain-core==1.7.2
cat >"$dir/try.py" <<'PYTHON'
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from langchain_openrouter import ChatOpenRouter

GOOD = {
    "id": "gen-1",
    "object": "chat.completion",
    "created": 1,
    "model": "some/model",
    "system_fingerprint": None,
    "choices": [
        {
            "index": 0,
            "logprobs": None,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "hello"},
        }
    ],
}
BUSY = {"error": {"code": 503, "message": "busy"}}
asked = 0


class Endpoint(BaseHTTPRequestHandler):
    def do_POST(self):
        global asked
        asked += 1
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps(BUSY if asked < 4 else GOOD).encode()
        self.send_response(503 if asked < 4 else 200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def invoke(model):
    global asked
    asked = 0
    try:
        return model.invoke("hi").text
    except Exception as error:
        return type(error).__name__


server = HTTPServer(("127.0.0.1", 0), Endpoint)
threading.Thread(target=server.serve_forever, daemon=True).start()
model = ChatOpenRouter(
    model="some/model",
    api_key="key",
    base_url=f"http://127.0.0.1:{server.server_port}",
    max_retries=0,
)
said = invoke(model)
print(f"max_retries=0: {said} after {asked} requests")
assert (said, asked) == ("hello", 4), "max_retries=0 is heeded now"
model.client.sdk_configuration.retry_config = None
said = invoke(model)
print(f"and without the SDK's own: {said} after {asked} request")
assert asked == 1
server.shutdown()
PYTHON
"$dir/venv/bin/python" "$dir/try.py"
