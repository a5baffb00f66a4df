"""The URLs of a declaration: variables filled in, and checked before anything is sent to them."""

import re
from collections.abc import Mapping

import httpx

Environment = Mapping[str, str]

_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")

# A name or an address; httpx takes nearly anything for a host, and would fail only at the call.
_HOST = re.compile(r"[^\s%\[\]\"'<>]+")


def substituted(text: str, environ: Environment) -> str:
    """`text` with `${NAME}` and `${NAME:-default}` replaced; an empty variable counts as not set.

    Raises `ValueError` that names the variable that is missing.
    """

    def value(match: re.Match[str]) -> str:
        name, default = match["name"], match["default"]
        found = environ.get(name) or default
        if found is None:
            raise ValueError(
                f"uses ${{{name}}}, but the variable {name} is not set; "
                f"set it, or write ${{{name}:-default}}"
            )
        # `http://agents/` before `/crm`: whoever sets the variable need not know how it is used.
        return found.rstrip("/") if text.startswith("/", match.end()) else found

    return _VARIABLE.sub(value, text)


def checked_url(text: str, *, query_allowed: bool) -> str:
    """`text` without trailing slashes; raises `ValueError` when it is no URL to call."""
    try:
        url = httpx.URL(text.strip())
    except httpx.InvalidURL as error:
        raise ValueError(f"expected an http:// or https:// URL: {error}") from error
    if url.userinfo:
        # The text is not repeated: it holds a password.
        raise ValueError(
            "must not hold a user or a password, for it is stored and logged; "
            "use secret_env to sign the requests instead"
        )
    if url.scheme not in {"http", "https"} or not _HOST.fullmatch(url.host):
        raise ValueError(f"expected an http:// or https:// URL with a host, got {text!r}")
    try:
        url.host.encode("idna")  # as the connection will
    except UnicodeError as error:
        raise ValueError(f"has a host that is no name ({error}), got {text!r}") from error
    if url.fragment or (url.query and not query_allowed):
        raise ValueError(f"must not have a {'fragment' if url.fragment else 'query'}, got {text!r}")
    return text.strip().rstrip("/")
