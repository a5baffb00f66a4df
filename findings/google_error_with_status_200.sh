#!/usr/bin/env bash
# langchain-google-genai makes an empty answer of an error that comes with status 200.
#
# Expected: a body with an "error" object and no candidates raises, as the same body does with its own
#   status (429 is a GoogleRateLimitError). Gateways send such bodies with status 200.
# Seen: an AIMessage with empty text, no finish_reason and no token counts. The error's words are lost;
#   only a log line says that the response was empty. A caller takes it for the model's silence.
# Versions: langchain-google-genai 4.4.2, langchain-core 1.7.2.
# What to do: an answer without text, calls, an end and counts is none: try it again.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check \
    langchain-google-genai==4.4.2 langchain-core==1.7.2
cat >"$dir/try.py" <<'PYTHON'
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from langchain_google_genai import ChatGoogleGenerativeAI

BODY = {"error": {"code": 429, "message": "slow down", "status": "RESOURCE_EXHAUSTED"}}


class Handler(BaseHTTPRequestHandler):
    status = 200

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps(BODY).encode()
        self.send_response(Handler.status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


server = HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
model = ChatGoogleGenerativeAI(
    model="gemini-x", api_key="k", base_url=f"http://127.0.0.1:{server.server_port}", max_retries=0
)
seen = {}
for Handler.status in (429, 200):
    try:
        message = model.invoke("Hi")
        seen[Handler.status] = (message.text, message.response_metadata.get("finish_reason"))
    except Exception as error:
        seen[Handler.status] = type(error).__name__
print(seen)
if seen != {429: "GoogleRateLimitError", 200: ("", None)}:
    sys.exit("the behaviour has changed")
PYTHON
"$dir/venv/bin/python" "$dir/try.py"
