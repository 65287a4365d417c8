"""The hub over HTTP, with the standard library alone. In asyncio: `partyline_client.aiohttp.AsyncHub`."""

import http.client
import ssl
import time
from typing import Any, Final, TypeVar
from urllib.parse import SplitResult, urlsplit

from partyline_client.errors import HubError, Unreachable
from partyline_client.methods import Blocking
from partyline_client.request import Request, read_answer
from partyline_client.retries import Retries

T = TypeVar("T")
TIMEOUT: Final = 30.0
"""Seconds without a sign of the hub until a call is given up."""


class Hub(Blocking):
    """A service's line to the hub; calls block. Every method raises `Problem`, `Unreachable` or `Unreadable`.

    `url` such as `https://hub.example.com`; `key`: the service's API key. Each call has a connection of its own, so
    that threads may share the object. Methods take what the functions of the same name in `calls` take.
    """

    def __init__(self, url: str, key: str, *, timeout: float = TIMEOUT, retries: Retries | None = None) -> None:
        parts = parts_of(url)
        self.url = url.rstrip("/")
        self._host, self._port = str(parts.hostname), parts.port
        self._path = parts.path.rstrip("/")
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._authorization = f"Bearer {key}"
        self._timeout = timeout
        self._retries = retries or Retries()

    def call(self, request: Request[T]) -> T:
        """Send any request, again where that is safe: what its answer means."""
        tried = 0
        while True:
            try:
                return request.read(self._ask(request))
            except HubError as error:
                pause = self._retries.pause(request, error, tried)
                if pause is None:
                    raise
            time.sleep(pause)
            tried += 1

    def _ask(self, request: Request[Any]) -> Any:
        connection = self._connection()
        headers = {**request.headers, "Authorization": self._authorization}
        try:
            connection.request(request.method, self._path + request.path, request.body, headers)
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"cannot reach {self.url}: {str(error) or type(error).__name__}") from error
        finally:
            connection.close()
        return read_answer(answer.status, dict(answer.getheaders()), body)

    def _connection(self) -> http.client.HTTPConnection:
        if self._tls:
            return http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout, context=self._tls)
        return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)


def parts_of(url: str) -> SplitResult:
    """The parts of the hub's URL. Raises ValueError for what is none."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0:
        raise ValueError(f"{url!r} is no http or https URL")
    return parts
