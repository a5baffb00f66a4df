"""Standard Webhooks signatures, held against the specification's own example."""

import pytest

from orchestrator.agents.signature import secret_key, signature_headers
from orchestrator.domain.errors import InvalidAgent

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.mark.parametrize("secret", [SECRET, SECRET.removeprefix("whsec_"), f"{SECRET}\n"])
def test_the_example_of_the_specification_has_its_signature(secret: str) -> None:
    headers = signature_headers(
        secret_key("S", secret),
        message_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp=1614265330,
        body=b'{"test": 2432232314}',
    )
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_c2hvcnQ=", "päss", "not base64 at all!!"])
def test_what_is_no_secret_is_refused_without_repeating_it(secret: str) -> None:
    with pytest.raises(InvalidAgent) as caught:
        secret_key("CRM_SECRET", secret)
    assert str(caught.value).startswith("CRM_SECRET is not ")
    assert secret in {"", "whsec_"} or secret not in str(caught.value)
