"""The HTTP client below Twilio's SDK: time-outs, no retries, credentials for Twilio's hosts only.

The SDK's own asynchronous client never uses its time-out, and its retries repeat POSTs after a 5xx, which can send a
message twice.
"""

from urllib.parse import urlencode, urlsplit, urlunsplit

import aiohttp
import orjson
from twilio.http import AsyncHttpClient
from twilio.http.response import Response

from providers.base import NotTaken
from providers.fetching import seconds_of
from providers.twilio.codes import THROTTLED

_TWILIO = ".twilio.com"


class HttpClient(AsyncHttpClient):  # type: ignore[misc]
    """One `ClientSession`; create it inside a running loop.

    `api_url` stands in for every host of Twilio. `timeout` bounds a whole request, in seconds.
    """

    def __init__(self, *, api_url: str | None, timeout: float, concurrency: int) -> None:
        self.is_async = True
        self._api_url = api_url
        # A shorter time to connect keeps "never connected" (may be sent again) apart from "never answered".
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=concurrency),
            timeout=aiohttp.ClientTimeout(total=timeout, sock_connect=timeout / 2),
        )

    async def request(
        self,
        method: str,
        uri: str,
        params: dict[str, object] | None = None,
        data: dict[str, object] | None = None,
        headers: dict[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the SDK's signature; the session's own time-out holds
        allow_redirects: bool = False,
    ) -> Response:
        """Make one request. Raises `NotTaken` for a 429, whose header the SDK would throw away."""
        query = urlencode(params, doseq=True) if params else ""
        url = self._rewrite(uri)
        if query:
            url += f"{'&' if '?' in url else '?'}{query}"
        sent_headers = dict(headers or {})
        if auth is not None:
            sent_headers["Authorization"] = aiohttp.encode_basic_auth(*auth)
        body = urlencode(data, doseq=True).encode() if data is not None else None
        async with self._session.request(method, url, data=body, headers=sent_headers, allow_redirects=False) as answer:
            text = await answer.text(errors="replace")
            if answer.status == 429:
                raise throttled(text, seconds_of(answer.headers.get("Retry-After")))
            return Response(answer.status, text, answer.headers)

    async def close(self) -> None:
        """Let go of connections."""
        await self._session.close()

    def _rewrite(self, uri: str) -> str:
        parts = urlsplit(uri)
        # The next page of a list is wherever the answer says: never send credentials elsewhere.
        if parts.scheme != "https" or not (parts.hostname or "").endswith(_TWILIO):
            raise ValueError("the SDK names a host that is not Twilio's")
        if self._api_url is None:
            return uri
        return self._api_url.rstrip("/") + urlunsplit(("", "", parts.path, parts.query, ""))


def throttled(text: str, retry_after: float | None) -> NotTaken:
    """What a 429 with this body means: it is of the account, unless it says that it is of the sender."""
    try:
        code = orjson.loads(text)["code"]
    except (ValueError, LookupError, TypeError):
        code = None
    known = code if isinstance(code, int) and code in THROTTLED else None
    return NotTaken(
        "throttled",
        "HTTP 429",
        provider_code=None if known is None else str(known),
        retry_after=retry_after,
        scope="account" if known is None else THROTTLED[known],
    )
