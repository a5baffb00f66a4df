"""`orchestrator health`: one request to a running process, also for a container's health check.

It reads no settings but the port, and imports nothing heavy: it runs every few seconds.
"""

import os
from http import HTTPStatus
from http.client import HTTPException, InvalidURL
from typing import Annotated
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, build_opener

import typer

from orchestrator.cli.output import AsJson, complain, print_json

app = typer.Typer(add_completion=False, rich_markup_mode=None)

DEFAULT_PORT = "8080"
MAX_PORT = 65535

Url = Annotated[
    str | None, typer.Option(help="Of the process; the default is this machine's port PORT.")
]
Ready = Annotated[bool, typer.Option("--ready", help="Ask /readyz instead of /livez.")]


def _answer(url: str) -> tuple[bool, str]:
    # Without proxies: the process asked is on this machine, or is named on purpose.
    opener = build_opener(ProxyHandler({}))
    try:
        with opener.open(url, timeout=4) as response:
            return response.status == HTTPStatus.OK, response.read(4096).decode(errors="replace")
    except HTTPError as error:
        with error:
            text = error.read(4096).decode(errors="replace")
        if error.code == HTTPStatus.SERVICE_UNAVAILABLE:
            return False, text  # its own word why
        return False, f"{url} answers HTTP {error.code}, as no worker does: {text}"
    except InvalidURL as error:
        return False, f"{url} is no address: {error}"
    except (URLError, OSError, ValueError, HTTPException) as error:
        why = getattr(error, "reason", None) or str(error) or type(error).__name__
        return False, f"{url} does not answer: {why}"


def _address() -> str:
    port = os.environ.get("PORT") or DEFAULT_PORT
    if not port.isdecimal() or not 0 < int(port) <= MAX_PORT:
        raise typer.BadParameter(
            f"PORT is {port!r}; expected the worker's, from 1 to {MAX_PORT}, or --url with its "
            "address, as its log has it",
            param_hint="--url",
        )
    return f"http://127.0.0.1:{port}"


@app.command()
def health(*, url: Url = None, ready: Ready = False, as_json: AsJson = False) -> None:
    """Exit 0 if the process says that it is well, else 1."""
    base = url or _address()
    is_well, text = _answer(f"{base.rstrip('/')}/{'readyz' if ready else 'livez'}")
    if as_json:
        print_json({"ok": is_well, "answer": text})
    elif is_well:
        typer.echo(text)
    else:
        complain(text)
    if not is_well:
        raise typer.Exit(1)
