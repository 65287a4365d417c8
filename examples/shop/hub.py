"""The two ways in which a shop's backend tells its hub who a visitor is. Copy what you need (docs/tracker.md)."""

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Sequence
from typing import Any

import aiohttp

PATIENCE = aiohttp.ClientTimeout(total=5)
"""Seconds the hub has: an order must not wait for it."""


class Refused(Exception):
    """What the customer typed cannot be read: the hub's sentences, by field."""

    def __init__(self, problem: dict[str, Any]) -> None:
        super().__init__(problem["detail"])
        self.faults = {fault["pointer"].strip("/"): fault["detail"] for fault in problem["errors"]}


class Hub:
    """The hub, called with this service's API key; it needs the scope `profiles`."""

    def __init__(self, session: aiohttp.ClientSession, url: str, key: str) -> None:
        self._session, self._url = session, url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}"}

    async def identify(self, **said: Any) -> str:
        """Declare a customer: `email`, `phone`, `consents`, and the `handle` of the browser they are at. Gives the
        hub's id of the contact. Raises `Refused`; `aiohttp.ClientError` and TimeoutError where the hub is away.
        """
        body = {name: value for name, value in said.items() if value}
        url = f"{self._url}/v1/identify"
        async with self._session.post(url, json=body, headers=self._headers, timeout=PATIENCE) as answer:
            if answer.status == 422:
                raise Refused(await answer.json(content_type=None))
            answer.raise_for_status()
            return str((await answer.json())["contact"]["id"])


def signed(
    secret: str, handle: str, *, email: str = "", phone: str = "", consents: Sequence[str] = ()
) -> dict[str, Any]:
    """What a page passes to `hub.identify`, signed: the visitor behind this handle is this customer of ours."""
    now, nonce = int(time.time()), secrets.token_urlsafe(16)
    text = "\n".join((handle, str(now), nonce, email, phone, ",".join(sorted(consents))))
    digest = hmac.digest(secret.encode(), text.encode(), hashlib.sha256)
    fields = {"email": email, "phone": phone, "consents": sorted(consents)}
    said = {name: value for name, value in fields.items() if value}
    signature = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    return {**said, "handle": handle, "time": now, "nonce": nonce, "signature": signature}
