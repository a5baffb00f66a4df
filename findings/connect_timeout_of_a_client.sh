#!/usr/bin/env bash
# ChatOpenAI overrides the connect timeout of the HTTP client that it is given.
#
# Expected: with http_async_client=httpx.AsyncClient(timeout=httpx.Timeout(60, connect=1)) an address
#   that takes no connection fails after 1 second; timeout=5 bounds the request.
# Seen: ChatOpenAI's timeout goes out with each request as the time for every phase, so connecting
#   takes the whole 5 seconds: with the usual timeout=60 an unreachable host costs a minute a call. It
#   ends as APITimeoutError, "Request timed out.", like an answer that did not come.
# Versions: langchain-openai 1.7.3, openai 3.52.0, httpx 0.28.1.
# What to do: set the connect timeout in the transport (request.extensions["timeout"]), or give
#   ChatOpenAI an httpx.Timeout in place of a number.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check \
    langchain-openai==1.7.3 langchain-core==1.7.2 openai==3.52.0 httpx==0.28.1
cat >"$dir/try.py" <<'PYTHON'
import asyncio
import socket
import sys
import time

import httpx
from langchain_openai import ChatOpenAI


async def fill(stack, address):
    """Connections until the next one is not taken: the listening socket never accepts any."""
    loop = asyncio.get_running_loop()
    while True:
        waiting = socket.socket()
        waiting.setblocking(False)
        stack.append(waiting)
        try:
            await asyncio.wait_for(loop.sock_connect(waiting, address), 0.3)
        except TimeoutError:
            return


async def seconds(model):
    started = time.monotonic()
    try:
        await model.ainvoke("Hi")
    except Exception as error:
        return round(time.monotonic() - started), type(error).__name__
    return None


async def main():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        stack = []
        await fill(stack, listening.getsockname())
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        limits = httpx.Timeout(60, connect=1)
        async with httpx.AsyncClient(timeout=limits) as client:
            given = {"model": "m", "api_key": "k", "base_url": url, "max_retries": 0}
            number = ChatOpenAI(**given, http_async_client=client, timeout=5)
            told = ChatOpenAI(**given, http_async_client=client, timeout=httpx.Timeout(5, connect=1))
            seen = {"timeout=5": await seconds(number), "connect=1": await seconds(told)}
        for waiting in stack:
            waiting.close()
    print(seen)
    if [taken for taken, _ in seen.values()] != [5, 1]:
        sys.exit("the behaviour has changed")


asyncio.run(main())
PYTHON
"$dir/venv/bin/python" "$dir/try.py"
