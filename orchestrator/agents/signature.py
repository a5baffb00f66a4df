"""Standard Webhooks signatures: an agent that shares our secret knows that a request is ours."""

import base64
import hashlib
import hmac

from orchestrator.domain.errors import InvalidAgent

PREFIX = "whsec_"
MIN_SECRET_BYTES = 24
EXPECTED = (
    f"{PREFIX}<base64 of at least {MIN_SECRET_BYTES} bytes>, "
    f"made with: echo {PREFIX}$(openssl rand -base64 32)"
)


def secret_key(variable: str, value: str) -> bytes:
    """The key in a secret of the form `whsec_<base64>` (the prefix may be missing).

    Raises `InvalidAgent`, whose text names the variable and never the value.
    """
    if not value:
        raise InvalidAgent(
            f"{variable} is not set in this process, or is a setting of the service itself; "
            f"set it to {EXPECTED}"
        )
    try:
        key = base64.b64decode(value.strip().removeprefix(PREFIX), validate=True)
    except ValueError:
        key = b""
    if len(key) < MIN_SECRET_BYTES:
        raise InvalidAgent(f"{variable} is not a signing secret; set it to {EXPECTED}")
    return key


def signature_headers(
    key: bytes, *, message_id: str, timestamp: int, body: bytes
) -> dict[str, str]:
    """The three headers; `timestamp` in Unix seconds, `message_id` the same for each attempt."""
    signed = b"%s.%d.%s" % (message_id.encode(), timestamp, body)
    digest = hmac.new(key, signed, hashlib.sha256).digest()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }
