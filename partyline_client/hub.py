"""The hub over HTTP, with the standard library alone.

Calls block; in asyncio: `await asyncio.to_thread(hub.reply, conversation_id, text, ...)`.
"""

import http.client
import ssl
from typing import Any, Final
from urllib.parse import urlsplit

from partyline_client import calls
from partyline_client.calls import Page, Request
from partyline_client.errors import Unreachable

TIMEOUT: Final = 30.0
"""Seconds without a sign of the hub until a call is given up."""


class Hub:
    """A service's line to the hub. Every method raises `Problem`, `Unreachable` or `Unreadable`.

    `url` such as `https://hub.example.com`; `key`: the service's API key. Each call has a connection of its own, so
    that threads may share the object. Methods take what the functions of the same name in `calls` take.
    """

    def __init__(self, url: str, key: str, *, timeout: float = TIMEOUT) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{url!r} is no http or https URL")
        self.url = url.rstrip("/")
        self._host, self._port = parts.hostname, parts.port
        self._path = parts.path.rstrip("/")
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._authorization = f"Bearer {key}"
        self._timeout = timeout

    def connect(self, number: str, **wanted: Any) -> dict[str, Any]:
        """Connect to a number. `signing_secret` is in the answer only where the connection is new: keep it."""
        return self._object(calls.connect(number, **wanted))

    def disconnect(self, number: str) -> None:
        """Leave a number."""
        self.call(calls.disconnect(number))

    def pause(self, number: str) -> dict[str, Any]:
        """Hold events back."""
        return self._object(calls.pause(number))

    def resume(self, number: str, mode: str = "continue") -> dict[str, Any]:
        """Go on with what waited (`continue`), or without it (`skip`)."""
        return self._object(calls.resume(number, mode))

    def replay(self, **selection: Any) -> dict[str, Any]:
        """Have events delivered once more: those of a `conversation_id`, `since` a time, all that `failed`..."""
        return self._object(calls.replay(**selection))

    def rotate_secret(self, number: str) -> str:
        """A new signing secret; the hub signs with the old one too for a while."""
        return str(self._object(calls.rotate_secret(number))["signing_secret"])

    def reply(self, conversation_id: str, text: str, *, idempotency_key: str, **more: Any) -> dict[str, Any]:
        """Reply: `message` is queued, `warnings` tell of others in the same conversation."""
        return self._object(calls.reply(conversation_id, text, idempotency_key=idempotency_key, **more))

    def events(self, after: str | None = None, **wanted: Any) -> Page:
        """A page of the feed: pass `next` as `after` to go on, and keep it together with the work."""
        return calls.read_page(self.call(calls.events(after, **wanted)))

    def call(self, request: Request) -> Any:
        """Send any request: the answer's JSON, or None."""
        connection = self._connection()
        headers = {**request.headers, "Authorization": self._authorization}
        try:
            connection.request(request.method, self._path + request.path, request.body, headers)
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"cannot reach {self.url}: {error or type(error).__name__}") from error
        finally:
            connection.close()
        return calls.read_answer(answer.status, dict(answer.getheaders()), body)

    def _connection(self) -> http.client.HTTPConnection:
        if self._tls:
            return http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout, context=self._tls)
        return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)

    def _object(self, request: Request) -> dict[str, Any]:
        return calls.read_object(self.call(request))
