"""Verify, then parse: nothing is read of what the hub did not sign (Standard Webhooks 1.0)."""

import hmac
import re
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

from standardwebhooks.webhooks import Webhook

from partyline_client.errors import BadSignature, Malformed, TooOld
from partyline_client.events import Event

TOLERANCE: Final = 300.0
"""Seconds a signature's time may differ from ours: what Standard Webhooks recommends."""
_SECONDS: Final = re.compile("0|[1-9][0-9]{0,11}")
_ID: Final = "webhook-id"
_TIME: Final = "webhook-timestamp"
_SIGNATURE: Final = "webhook-signature"

Secrets = str | Iterable[str]


class Receiver:
    """Turns a request into an `Event`, or says why it is none.

    `secrets`: one `whsec_...`, several (while they are rotated, or of several numbers), or a function that is asked at
    every request, so that a new secret counts at once. Raises ValueError for none, and for what is no secret.
    `tolerance`: seconds; `clock`: unix seconds.
    """

    def __init__(
        self,
        secrets: Secrets | Callable[[], Secrets],
        *,
        tolerance: float = TOLERANCE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if callable(secrets):
            self._keys: Callable[[], list[Webhook]] = lambda: _keys(secrets())
        else:
            fixed = _keys(secrets)
            if not fixed:
                raise ValueError("without a signing secret nothing can be verified")
            self._keys = lambda: fixed
        self._tolerance = tolerance
        self._clock = clock

    def receive(self, body: bytes, headers: Mapping[str, str]) -> Event:
        """Read one webhook: the body's bytes as they came, and the headers in any case of letters.

        Raises `BadSignature`, `TooOld` or `Malformed`.
        """
        named = {name.lower(): value for name, value in headers.items()}
        self._verify(body, named)
        event = Event.from_json(body, is_replay=named.get("webhook-replay") == "true")
        if event.id != named[_ID]:
            raise Malformed(f"the event {event.id} was sent as {named[_ID]}")
        return event

    def _verify(self, body: bytes, named: Mapping[str, str]) -> None:
        webhook_id, seconds, signatures = (named.get(name, "") for name in (_ID, _TIME, _SIGNATURE))
        if not (webhook_id and seconds and signatures):
            raise BadSignature(f"{_ID}, {_TIME} or {_SIGNATURE} is missing")
        at = _time(seconds)
        given = [signature.encode(errors="replace") for signature in signatures.split()]
        matches = [
            hmac.compare_digest(expected, signature)
            for expected in self._expected(webhook_id, at, body)
            for signature in given
        ]
        if not any(matches):
            raise BadSignature(f"none of {len(given)} signatures is made with a secret we know")
        age = self._clock() - at.timestamp()
        if abs(age) > self._tolerance:
            raise TooOld(age)

    def _expected(self, webhook_id: str, at: datetime, body: bytes) -> list[bytes]:
        """The signature that each of our secrets would make."""
        try:
            return [key.sign(webhook_id, at, body.decode()).encode() for key in self._keys()]
        except UnicodeError:
            raise BadSignature("the hub sends UTF-8") from None


def _time(seconds: str) -> datetime:
    if _SECONDS.fullmatch(seconds):
        try:
            return datetime.fromtimestamp(int(seconds), UTC)
        except (ValueError, OverflowError, OSError):
            pass
    raise BadSignature(f"{_TIME} is unix seconds")


def _keys(secrets: Secrets) -> list[Webhook]:
    """Raises ValueError for what is no secret, and never shows it."""
    try:
        return [Webhook(secret) for secret in ([secrets] if isinstance(secrets, str) else secrets)]
    except Exception:
        raise ValueError("a signing secret is whsec_ and base64, as the hub gave it") from None
