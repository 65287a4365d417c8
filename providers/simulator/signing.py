"""How the providers sign their webhooks, written from their documentation and not shared with the hub's own checks.

Meta: https://developers.facebook.com/docs/graph-api/webhooks/getting-started#validate-payloads;
Twilio: https://www.twilio.com/docs/usage/webhooks/webhooks-security.
"""

import base64
import hashlib
import hmac
from collections.abc import Sequence

Form = Sequence[tuple[str, str]]


def sign_meta(body: bytes, app_secret: str) -> str:
    """The value of `X-Hub-Signature-256` over the raw bytes."""
    return "sha256=" + hmac.new(app_secret.encode(), body, hashlib.sha256).hexdigest()


def sign_twilio(url: str, form: Form, auth_token: str, *, with_sha256: bool = False) -> str:
    """The value of `X-Twilio-Signature`: the whole URL, then every name and value, sorted, each pair once.

    `with_sha256`: as with a shared key instead of the account's token.
    """
    signed = url + "".join(name + value for name, value in sorted(set(form)))
    digest = hmac.new(auth_token.encode(), signed.encode(), hashlib.sha256 if with_sha256 else hashlib.sha1).digest()
    return base64.b64encode(digest).decode()


def with_body_hash(url: str, body: bytes) -> str:
    """The URL with `bodySHA256`, by which the signature covers a body that is no form."""
    return f"{url}{'&' if '?' in url else '?'}bodySHA256={hashlib.sha256(body).hexdigest()}"
