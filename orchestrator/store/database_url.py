"""`DATABASE_URL` as tutorials and providers write it, made into one that asyncpg takes.

libpq's parameters stay (`sslmode`, `sslrootcert`, …). Those that only libpq's client understands
are left out: they would reach the server as unknown settings.
"""

from urllib.parse import parse_qsl, quote, urlencode, urlsplit

SCHEMES = (
    "postgresql",
    "postgres",
    "postgresql+asyncpg",
    "postgresql+psycopg",
    "postgresql+psycopg2",
)

CLIENT_ONLY = frozenset(
    {
        "channel_binding",
        "connect_timeout",
        "fallback_application_name",
        "gssencmode",
        "keepalives",
        "keepalives_count",
        "keepalives_idle",
        "keepalives_interval",
        "load_balance_hosts",
        "sslcompression",
        "sslsni",
        "tcp_user_timeout",
    }
)


def checked_url(text: str) -> str:
    """The URL for asyncpg.

    Raises:
        ValueError: it is none; the text says why, and never repeats the URL.
    """
    scheme, separator, _ = text.partition("://")
    if not separator or scheme not in SCHEMES:
        shown = f"it starts with {scheme!r}" if separator and len(scheme) < 20 else "it is no URL"
        raise ValueError(f"{shown}; the scheme has to be postgresql")
    parts = urlsplit(text.strip())
    try:
        port = parts.port
    except ValueError:
        port = -1
    # An unescaped "/" or "#" in a password ends the host early: the rest of it would be the path.
    if (port == -1 and "," not in parts.netloc) or parts.fragment:
        raise ValueError(
            "its port is not a number; in a password, write characters such as @ / # : ? "
            "as %40 %2F %23 %3A %3F"
        )
    if not parts.path.strip("/") and "dbname=" not in parts.query:
        raise ValueError("it names no database; end it with /name")
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    kept = [(name, value) for name, value in pairs if name not in CLIENT_ONLY]
    query = f"?{urlencode(kept, safe='/', quote_via=quote)}" if kept else ""
    return f"postgresql://{parts.netloc}{parts.path}{query}"
