#!/usr/bin/env bash
# openai: a base URL with a query loses its path behind the query.
#
# Versions: openai 3.52.0, langchain-openai 1.7.3.
# Expected: base_url "http://host/openai/deployments/d?api-version=2024-10-21" (as Azure writes its
#   addresses) asks for "/openai/deployments/d/chat/completions?api-version=2024-10-21". The client
#   knows of such addresses: it puts the trailing slash before the query.
# Seen: it asks for "/openai/deployments/d/?api-version=2024-10-21chat/completions": the operation
#   becomes a part of the last value of the query. A server answers 404, or with a good status for
#   another path. ChatOpenAI passes the address on as it is, so it does the same.
# What to do: give the client the address without its query, and the query as `default_query`.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "openai==3.52.0" "langchain-openai==1.7.3"

"$folder/venv/bin/python" - <<'PYTHON'
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import openai
from langchain_openai import ChatOpenAI

asked = []


class Endpoint(BaseHTTPRequestHandler):
    def do_POST(self):
        asked.append(self.path)
        self.rfile.read(int(self.headers["content-length"]))
        message = {"role": "assistant", "content": "yes"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        body = {"id": "x", "object": "chat.completion", "created": 1, "model": "m"}
        content = json.dumps({**body, "choices": [choice]}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", 0), Endpoint)
threading.Thread(target=server.serve_forever, daemon=True).start()
base = f"http://127.0.0.1:{server.server_port}/openai/deployments/d"
query = {"api-version": "2024-10-21"}
messages = [{"role": "user", "content": "hi"}]


def ask(**address):
    client = openai.OpenAI(api_key="k", max_retries=0, **address)
    client.chat.completions.create(model="m", messages=messages)
    ChatOpenAI(model="m", api_key="k", max_retries=0, **address).invoke("hi")
    return asked[-2:]


seen = ask(base_url=f"{base}?api-version=2024-10-21")
apart = ask(base_url=base, default_query=query)
server.shutdown()
expected = "/openai/deployments/d/chat/completions?api-version=2024-10-21"
glued = "/openai/deployments/d/?api-version=2024-10-21chat/completions"
print("openai", openai.__version__)
print("expected:", expected)
print("seen:    ", seen)
print("apart:   ", apart)
if seen != [glued] * 2 or apart != [expected] * 2:
    raise SystemExit("the behaviour has changed")
PYTHON
