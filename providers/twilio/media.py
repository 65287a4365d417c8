"""Fetching customers' files from Twilio.

https://www.twilio.com/docs/messaging/api/media-resource. The API wants the account's credentials and answers with a
redirect to where the file is kept, which is good for four hours and must not see them.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import aiohttp
from yarl import URL

from providers.base import MediaRef, MediaStream, NotTaken, Refused
from providers.fetching import CHUNK, MAX_REDIRECTS, PLAIN, Hosts, filename_of, meaning_of, size_of, within
from providers.twilio.errors import from_failure

API: Final = Hosts(frozenset({"api.twilio.com"}))
"""Who may see the credentials."""
KEPT: Final = frozenset(
    {
        ".twilio.com",
        ".twiliocdn.com",
        "s3-external-1.amazonaws.com",
        "media.twiliocdn.com.s3-external-1.amazonaws.com",
        "media.twiliocdn.com.s3.amazonaws.com",
    }
)
"""Where files may be: at the API, its CDN, or, without HTTP authentication for media, in a bucket of Twilio's."""
TOTAL: Final = 10
"""Time-outs of a request that a whole download may take."""


class Downloads:
    """Connections for files alone. Create it inside a running loop.

    `api_url` stands in for Twilio's API; `authorization` is the header's value for it. Nothing read takes longer than
    `timeout` seconds, and a whole file no longer than ten times that.
    """

    def __init__(self, *, api_url: str | None, authorization: str, timeout: float, concurrency: int) -> None:
        self._api_url = api_url
        self._hosts = Hosts(KEPT, own=api_url)
        self._authorization = authorization
        self._total = TOTAL * timeout
        self._slots = asyncio.Semaphore(concurrency)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=concurrency),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=timeout / 2, sock_read=timeout),
            auto_decompress=False,
        )

    @asynccontextmanager
    async def open(self, media: MediaRef) -> AsyncIterator[MediaStream]:
        """Fetch a file. Raises `Refused`, `NotTaken`, also while its pieces are read."""
        if not media.url:
            raise Refused("media_unavailable", "The webhook named no address.")
        async with self._slots:
            deadline = asyncio.get_running_loop().time() + self._total
            answer = await self._open(self._hosts.check(media.url), deadline)
            try:
                headers = answer.headers
                if headers.get("Content-Encoding", "identity") != "identity":
                    raise NotTaken("bad_answer", "the file came compressed, which was not asked for")
                yield MediaStream(
                    mime_type=headers.get("Content-Type"),
                    size=size_of(headers.get("Content-Length")),
                    filename=filename_of(headers.get("Content-Disposition")),
                    pieces=_pieces(answer, deadline),
                )
            finally:
                answer.close()

    async def close(self) -> None:
        """Let go of connections."""
        await self._session.close()

    async def _open(self, url: str, deadline: float) -> aiohttp.ClientResponse:
        """The answer that has the file. Credentials go to the API only, and no redirect is asked with them."""
        headers = PLAIN
        if API.allow(url) or self._hosts.is_own(url):
            url, headers = self._rewrite(url), PLAIN | {"Authorization": self._authorization}
        for _ in range(MAX_REDIRECTS + 1):
            answer = await within(deadline, self._get(url, headers), from_failure)
            location = answer.headers.get("Location") if 300 <= answer.status < 400 else None
            if location is None:
                error = meaning_of(answer.status, answer.headers.get("Retry-After"))
                if error is None:
                    return answer
                answer.close()
                raise error
            answer.close()
            url, headers = self._hosts.follow(url, location), PLAIN
        raise NotTaken("bad_answer", "too many redirects")

    async def _get(self, url: str, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        return await self._session.get(URL(url, encoded=True), headers=headers, allow_redirects=False)

    def _rewrite(self, url: str) -> str:
        if self._api_url is None or self._hosts.is_own(url):
            return url
        parts = urlsplit(url)
        return self._api_url.rstrip("/") + urlunsplit(("", "", parts.path, parts.query, ""))


async def _pieces(answer: aiohttp.ClientResponse, deadline: float) -> AsyncIterator[bytes]:
    while piece := await within(deadline, answer.content.read(CHUNK), from_failure):
        yield piece
