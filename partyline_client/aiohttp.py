"""For asyncio with aiohttp (`pip install 'partyline-client[aiohttp]'`): calls to the hub, and webhooks from it.

async with AsyncHub("https://hub.example.com", key) as hub:
    await hub.reply(conversation_id, "It is on its way.", agent={"id": "ana", "name": "Ana"})

app.add_routes([web.post("/partyline", webhook(Receiver(secret), handle))])
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final, Self, TypeVar, Unpack

import aiohttp
from aiohttp import web

from partyline_client.errors import HubError, Unreachable
from partyline_client.hub import TIMEOUT, parts_of
from partyline_client.inbox import TOO_LARGE, Inbox, Options, Work
from partyline_client.methods import Awaitable as Calls
from partyline_client.receiver import Receiver
from partyline_client.request import Request, read_answer
from partyline_client.retries import Retries

T = TypeVar("T")
SILENCE: Final = 50.0
"""Seconds without a byte until a stream is given up: the hub says every 15 that it is there."""


class AsyncHub(Calls):
    """A service's line to the hub, as `Hub` is, for asyncio. It keeps one session with its connections; close it, or
    use it in `async with`. A `session` that is given stays its owner's.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        session: aiohttp.ClientSession | None = None,
        timeout: float = TIMEOUT,
        retries: Retries | None = None,
    ) -> None:
        parts_of(url)
        self.url = url.rstrip("/")
        self._key = key
        self._session = session
        self._owns_session = session is None
        self._timeout = timeout
        self._retries = retries or Retries()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the session, if it is one's own."""
        if self._owns_session and self._session is not None:
            session, self._session = self._session, None
            await session.close()

    async def call(self, request: Request[T]) -> T:
        """Send any request, again where that is safe: what its answer means."""
        tried = 0
        while True:
            try:
                return request.read(await self._ask(request))
            except HubError as error:
                pause = self._retries.pause(request, error, tried)
                if pause is None:
                    raise
            await asyncio.sleep(pause)
            tried += 1

    async def _ask(self, request: Request[Any]) -> Any:
        limits = aiohttp.ClientTimeout(total=self._timeout)
        async with self._answer(request, limits) as answer:
            return read_answer(answer.status, answer.headers, await self._body(answer))

    @asynccontextmanager
    async def chunks(self, request: Request[Any]) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes of an answer without end, as they come: the live stream's, for an `EventStream`."""
        limits = aiohttp.ClientTimeout(total=None, sock_connect=self._timeout, sock_read=SILENCE)
        async with self._answer(request, limits) as answer:
            if answer.status != 200:
                read_answer(answer.status, answer.headers, await self._body(answer))
            async with aclosing(self._read(answer)) as chunks:
                yield chunks

    async def _body(self, answer: aiohttp.ClientResponse) -> bytes:
        try:
            return await answer.read()
        except (aiohttp.ClientError, OSError) as error:
            raise self._unreachable(error) from error

    async def _read(self, answer: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
        try:
            async for chunk in answer.content.iter_any():
                yield chunk
        except (aiohttp.ClientError, OSError) as error:
            raise self._unreachable(error) from error

    @asynccontextmanager
    async def _answer(
        self, request: Request[Any], limits: aiohttp.ClientTimeout
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        if self._session is None:
            self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        headers = {**request.headers, "Authorization": f"Bearer {self._key}"}
        try:
            answer = await self._session.request(
                request.method,
                self.url + request.path,
                data=request.body,
                headers=headers,
                timeout=limits,
                allow_redirects=False,
            )
        except (aiohttp.ClientError, OSError) as error:
            raise self._unreachable(error) from error
        try:
            yield answer
        finally:
            answer.close()  # what was read to its end has given its connection back before

    def _unreachable(self, error: Exception) -> Unreachable:
        return Unreachable(f"cannot reach {self.url}: {str(error) or type(error).__name__}")


def webhook(
    receiver: Receiver, work: Work, **options: Unpack[Options]
) -> Callable[[web.Request], Awaitable[web.Response]]:
    """A handler for `web.post`: verifies what the hub posts, drops repeats, has `work` done on each event, answers.

    An application takes bodies up to its `client_max_size`, 1 MiB unless said: give it 4 for the largest events.
    """
    inbox = Inbox(receiver, work, **options)

    async def handle(request: web.Request) -> web.Response:
        body = await request.read()  # aiohttp answers 413 itself for more than the application's `client_max_size`
        answer = TOO_LARGE if len(body) > inbox.max_bytes else await inbox.take(body, request.headers)
        return web.Response(status=answer.status, headers=answer.headers)

    return handle
