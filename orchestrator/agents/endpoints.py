"""The URLs of a declaration, checked before anything is sent to them."""

import re

import httpx

_UNFILLED = re.compile(r"\$\{\w{0,100}\}?")

# A name or an address; httpx takes nearly anything for a host, and would fail only at the call.
_HOST = re.compile(r"[^\s%\[\]\"'<>]+")


def checked_url(text: str, *, query_allowed: bool) -> str:
    """`text` without trailing slashes; raises `ValueError` when it is no URL to call."""
    if left := _UNFILLED.search(text):
        raise ValueError(
            f"holds {left[0]}, which is not filled in: variables are filled in once, when a "
            "declaration is added; write the value itself"
        )
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
