"""The two ways in which a shop's backend tells its hub who a visitor is. Copy what you need (docs/tracker.md)."""

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Sequence
from typing import Any

import aiohttp

from partyline_client import NEVER, Problem
from partyline_client.aiohttp import AsyncHub

PATIENCE = 5.0
"""Seconds the hub has: an order must not wait for it."""


class Refused(Exception):
    """What the customer typed cannot be read: the hub's sentences, by field."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.faults = {fault["pointer"].strip("/"): fault["detail"] for fault in problem.errors}


class Hub:
    """The hub, called with this service's API key; it needs the scope `profiles`."""

    def __init__(self, session: aiohttp.ClientSession, url: str, key: str) -> None:
        self._hub = AsyncHub(url, key, session=session, timeout=PATIENCE, retries=NEVER)

    async def identify(self, **said: Any) -> str:
        """Declare a customer: `email`, `phone`, `consents`, and the `handle` of the browser they are at. Gives the
        hub's id of the contact. Raises `Refused`, and `HubError` where the hub is away.
        """
        try:
            known = await self._hub.identify(**{name: value for name, value in said.items() if value})
        except Problem as problem:
            if problem.status == 422:
                raise Refused(problem) from None
            raise
        return known["contact"]["id"]


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
