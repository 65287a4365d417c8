"""Posting webhooks as the providers do: signed, and repeated by each one's rules."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import aiohttp
from yarl import URL

from providers.simulator.meta_webhooks import encode
from providers.simulator.signing import Form, sign_meta, sign_twilio, with_body_hash

META_PATH = "/webhooks/meta"
TWILIO_PATH = "/webhooks/twilio"

_FORM = "application/x-www-form-urlencoded; charset=UTF-8"
_JSON = "application/json; charset=UTF-8"
_TIMEOUT = aiohttp.ClientTimeout(total=15)


@dataclass(frozen=True, slots=True)
class Posted:
    """How a webhook ended: the last HTTP status (None: no connection), after `tries`, with the hub's `answer`."""

    path: str
    status: int | None
    tries: int
    answer: str = ""


class Poster:
    """Posts to the hub at `hub_url`; Twilio's signatures are over `public_url`, which may be another.

    Meta repeats until it is answered 200, here up to `meta_tries` times with `backoff` seconds, doubling up to
    `longest` (really for days). Twilio repeats once, and only where no connection came about. `twilio_json`: its
    parameters come as JSON; with a `twilio_shared_key` it signs with that, by SHA-256.
    """

    def __init__(
        self, app_secret: str, auth_token: str, *, meta_tries: int = 5, backoff: float = 0.05, longest: float = 1.0
    ) -> None:
        self.hub_url: str | None = None
        self.public_url: str | None = None
        self.twilio_json = False
        self.twilio_shared_key: str | None = None
        self._app_secret = app_secret
        self._auth_token = auth_token
        self.meta_tries = meta_tries
        self._backoff = backoff
        self._longest = longest
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Let go of connections."""
        if self._session is not None:
            await self._session.close()

    async def meta(self, body: Mapping[str, Any] | bytes, *, app_secret: str | None = None) -> Posted:
        """Post one body, signed with `app_secret` where given."""
        raw = body if isinstance(body, bytes) else encode(body)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "facebookexternalua",
            "X-Hub-Signature-256": sign_meta(raw, app_secret or self._app_secret),
        }
        pause = self._backoff
        for tries in range(1, self.meta_tries + 1):
            posted = await self._try(META_PATH, raw, headers, tries)
            if posted.status == 200 or tries == self.meta_tries:
                break
            await asyncio.sleep(pause)
            pause = min(2 * pause, self._longest)
        return posted

    async def twilio(self, url: str, form: Form, *, auth_token: str | None = None) -> Posted:
        """Post one form to `url`, a path of the hub's or a whole URL as in a send's `StatusCallback`."""
        public_url = self.public_url or self._hub()
        target = public_url + url if url.startswith("/") else url
        raw, media_type, signed = urlencode(form).encode(), _FORM, form
        if self.twilio_json:
            raw, media_type, signed = json.dumps(dict(form)).encode(), _JSON, ()
            target = with_body_hash(target, raw)
        key = auth_token or self.twilio_shared_key or self._auth_token
        has_shared_key = key == self.twilio_shared_key
        headers = {
            "Content-Type": media_type,
            "User-Agent": "TwilioProxy/1.1",
            "X-Twilio-Signature": sign_twilio(target, signed, key, with_sha256=has_shared_key),
        }
        if has_shared_key:
            headers["X-Twilio-Webhooks-Signature-Settings"] = "key=webhooks_sharedkey_simulated,algorithm=HMAC_SHA256"
        path = target.removeprefix(public_url)
        posted = await self._try(path, raw, headers, 1)
        return await self._try(path, raw, headers, 2) if posted.status is None else posted

    async def handshake(self, verify_token: str, challenge: str = "1158201444") -> bool:
        """Prove the webhook as Meta does when it is registered; True if the hub repeats the challenge."""
        query = {"hub.mode": "subscribe", "hub.challenge": challenge, "hub.verify_token": verify_token}
        async with self._open().get(self._hub() + META_PATH, params=query) as answer:
            return answer.status == 200 and await answer.text() == challenge

    async def _try(self, path: str, raw: bytes, headers: Mapping[str, str], tries: int) -> Posted:
        url = path if "://" in path else self._hub() + path
        try:
            async with self._open().post(URL(url, encoded=True), data=raw, headers=headers) as answer:
                return Posted(path, answer.status, tries, await answer.text(errors="replace"))
        except (aiohttp.ClientError, TimeoutError):
            return Posted(path, None, tries)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=_TIMEOUT, cookie_jar=aiohttp.DummyCookieJar())
        return self._session

    def _hub(self) -> str:
        if self.hub_url is None:
            raise RuntimeError("the simulator does not know the hub: set hub_url")
        return self.hub_url
