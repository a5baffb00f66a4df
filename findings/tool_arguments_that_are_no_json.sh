#!/usr/bin/env bash
# LangChain takes tool arguments that are not JSON for a valid tool call.
#
# Expected: arguments that are not JSON are in invalid_tool_calls, so that the model can be asked to mend
#   them. NaN and Infinity are not JSON.
# Seen: {"amount": NaN} is a valid tool call with a float nan. Sent on to the tool with orjson it is null;
#   httpx refuses to send it (ValueError); json.dumps writes NaN again, so that the tool, or the endpoint
#   that gets the conversation back, can't parse it. 0.1234567890123456789 is rounded without a word.
# Versions: langchain-core 1.7.2, httpx 0.28.1, orjson 3.13.0.
# What to do: parse the arguments as strict JSON yourself, before they are a tool call.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check \
    langchain-core==1.7.2 httpx==0.28.1 orjson==3.13.0
cat >"$dir/try.py" <<'PYTHON'
import json
import sys

import httpx
import orjson
from langchain_core.output_parsers.openai_tools import parse_tool_call


def args_of(arguments: str) -> dict:
    function = {"name": "pay", "arguments": arguments}
    return parse_tool_call({"id": "1", "type": "function", "function": function}, return_id=True)["args"]


broken = args_of('{"amount": NaN, "rate": 0.1234567890123456789}')
seen = {
    "arguments": repr(broken),
    "as orjson writes them": orjson.dumps(broken).decode(),
    "as the next turn holds them": json.dumps(broken),
}
try:
    httpx.Request("POST", "http://tool.invalid", json=broken)
    seen["sent by httpx"] = "yes"
except ValueError as error:
    seen["sent by httpx"] = f"no: {error}"
for name, value in seen.items():
    print(f"{name}: {value}")
expected = {
    "arguments": "{'amount': nan, 'rate': 0.12345678901234568}",
    "as orjson writes them": '{"amount":null,"rate":0.12345678901234568}',
    "as the next turn holds them": '{"amount": NaN, "rate": 0.12345678901234568}',
    "sent by httpx": "no: Out of range float values are not JSON compliant",
}
changed = {n: v for n, v in seen.items() if not v.startswith(expected[n])}
sys.exit(f"the behaviour has changed: {changed}" if changed else 0)
PYTHON
"$dir/venv/bin/python" "$dir/try.py"
