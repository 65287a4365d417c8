"""The HTTP server of one process: its sockets, and how they are given up."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Any, Final, cast

from aiohttp import web

BACKLOG: Final = 1024
"""Connections that may wait to be taken."""
_GRACE: Final = 3.0
"""Seconds requests that are being answered get when the server is stopped."""
_QUIET: Final = 2.0
"""Seconds without any request after which connections that are kept open count as idle."""
_DRAIN: Final = 5.0
"""Seconds a drain takes at most, however busy connections are that are kept open."""
_TICK: Final = 0.05
_LATE: Final = 5
"""Turns of the loop after which what was accepted while we closed is a connection, and can be ended."""


def url_of(address: Sequence[Any]) -> str:
    """The URL of a socket's address."""
    host, port = address[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """Serves one application; `before` may answer requests in its place, and gets its handler for all others."""

    def __init__(self, app: web.Application, before: Callable[[Handler], Handler] | None = None) -> None:
        self._is_ending = False
        self._before = before
        app.on_response_prepare.append(self._say_goodbye)
        self._runner = web.AppRunner(app, access_log=None, auto_decompress=False, shutdown_timeout=_GRACE)

    async def _say_goodbye(self, _: web.Request, response: web.StreamResponse) -> None:
        """The last answer on a connection says so: its client then opens another, and loses nothing."""
        if self._is_ending:
            response.force_close()
            response.headers["Connection"] = "close"

    async def listen(self, host: str, port: int, inherited: Sequence[socket.socket] = ()) -> str:
        """Take connections, from the inherited sockets where there are any; gives the URL. Raises OSError."""
        await self._runner.setup()
        if self._before and (server := self._runner.server):
            server.request_handler = cast("Any", self._before(server.request_handler))
        sites: list[web.BaseSite] = [web.SockSite(self._runner, given, backlog=BACKLOG) for given in inherited]
        for site in sites or [web.TCPSite(self._runner, host, port, backlog=BACKLOG)]:
            await site.start()
        return url_of(self._runner.addresses[0])

    async def drain(self) -> None:
        """Take no new connections; answer every open one once more, until they are gone or idle. Then comes `stop`.

        An idle one is not closed at once: a request that is on its way then would be reset.
        """
        self._is_ending = True
        for site in self._runner.sites:
            await site.stop()
        server = self._runner.server
        assert server
        seen, since, deadline = server.requests_count, monotonic(), monotonic() + _DRAIN
        while monotonic() < min(since + _QUIET, deadline):
            await asyncio.sleep(_TICK)  # first: what was accepted just now is a connection only then
            if not server.connections:
                return
            if server.requests_count != seen:
                seen, since = server.requests_count, monotonic()

    async def stop(self) -> None:
        """Take no new connections, close idle ones, answer who is waiting."""
        self._is_ending = True
        server = self._runner.server
        await self._runner.cleanup()
        for _ in range(_LATE):
            await asyncio.sleep(0)
        for late in server.connections if server else ():
            if late.transport is not None:
                late.transport.abort()
