"""The HTTP side of delivery: one POST, bounded in time and size, to an address that was checked."""

import asyncio
import ssl
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Final
from urllib.parse import urlsplit
from weakref import WeakSet

from hub.domain.endpoints import EndpointPolicy
from hub.domain.errors import Invalid
from hub.fanout.dialing import Dialer, DialError, LookUp, Origin, Resolver, look_up
from hub.fanout.http1 import MAX_ANSWER, Answer, Connection

__all__ = ["MAX_ANSWER", "Answer", "DeliveryClient"]

_USER_AGENT: Final = "Partyline/1"
_URLS: Final = 4096
_SWEEP: Final = 5.0
"""Seconds between looks for connections that are no longer needed."""


@dataclass(frozen=True, slots=True)
class _Target:
    """What is known of a URL before a request: where it leads, and how every request to it begins."""

    origin: Origin
    head: str


class _Pool:
    """Connections that wait for their next request, by where they lead; there may be any number of them."""

    def __init__(self, idle: float, life: float) -> None:
        self._idle = idle
        self._life = life
        self._waiting: dict[Origin, list[Connection]] = {}
        self._sweeper: asyncio.TimerHandle | None = None

    def take(self, origin: Origin) -> Connection | None:
        """The one that was used last: so those that are too many grow old."""
        waiting = self._waiting.get(origin)
        while waiting:
            connection = waiting.pop()
            if connection.is_open:
                return connection
        return None

    def put(self, origin: Origin, connection: Connection) -> None:
        """Keep a connection for later, unless it is old: a name may lead elsewhere by now."""
        loop = asyncio.get_running_loop()
        connection.idle_since = now = loop.time()
        if now - connection.born >= self._life:
            connection.drop()
            return
        waiting = self._waiting.get(origin)
        if waiting is None:
            waiting = self._waiting[origin] = []
        waiting.append(connection)
        if self._sweeper is None:
            self._sweeper = loop.call_later(min(_SWEEP, self._idle), self._sweep)

    def _sweep(self) -> None:
        """Close what was idle too long or is too old."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for origin, waiting in list(self._waiting.items()):
            kept = [one for one in waiting if one.is_open and self._is_young(one, now)]
            for connection in set(waiting).difference(kept):
                connection.drop()
            if kept:
                self._waiting[origin] = kept
            else:
                del self._waiting[origin]
        self._sweeper = loop.call_later(min(_SWEEP, self._idle), self._sweep) if self._waiting else None

    def _is_young(self, connection: Connection, now: float) -> bool:
        return now - connection.idle_since < self._idle and now - connection.born < self._life

    def close(self) -> None:
        """Look no more."""
        if self._sweeper:
            self._sweeper.cancel()
        self._sweeper = None
        self._waiting.clear()


class DeliveryClient:
    """Posts to endpoints. No redirects, no cookies, no limit shared between endpoints.

    `timeout` is for everything from looking a name up to the end of the answer. `tls` and `look_up` are there for
    tests: other certificates, other names. Connections are closed after `idle` seconds without use and not used again
    after `life` seconds, so that changes of names are followed.
    """

    def __init__(
        self,
        policy: EndpointPolicy,
        *,
        timeout: float,
        tls: ssl.SSLContext | None = None,
        look_up: LookUp = look_up,
        idle: float = 15.0,
        life: float = 300.0,
    ) -> None:
        self._timeout = timeout
        self._target = lru_cache(maxsize=_URLS)(partial(_target, policy))
        self._dialer = Dialer(policy, Resolver(look_up), tls)
        self._pool = _Pool(idle, life)
        self._connections: WeakSet[Connection] = WeakSet()
        self._is_closed = False

    async def post(self, url: str, body: bytes, headers: dict[str, str]) -> Answer:
        """Deliver one body. Never raises for what the endpoint or the network does.

        A connection that was used before and ends without an answer was most likely closed for being idle: the request
        is sent again at once on a new one. Raises ValueError if a header is more than one line, or not ASCII.
        """
        target = self._target(url)  # it is judged again here, because settings may have changed since it was stored
        if isinstance(target, Answer):
            return target
        origin, head = target.origin, _head(target, body, headers)
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._timeout
        connection = self._pool.take(origin)
        if connection:
            answer = await self._exchange(origin, connection, head, body, self._timeout)
            if answer.problem != "disconnected":
                return answer
        try:
            connection = await self._dial(origin, deadline)
        except DialError as error:
            return Answer(None, error.problem)
        return await self._exchange(origin, connection, head, body, deadline - clock())

    async def _dial(self, origin: Origin, deadline: float) -> Connection:
        if self._is_closed:
            raise DialError("closed")
        connection = await self._dialer.dial(origin, deadline)
        self._connections.add(connection)
        if self._is_closed:
            connection.drop("closed")
        return connection

    async def _exchange(
        self, origin: Origin, connection: Connection, head: bytes, body: bytes, seconds: float
    ) -> Answer:
        try:
            answer = await connection.send(head, body, seconds)
        except asyncio.CancelledError:
            connection.drop()
            raise
        if connection.is_reusable:
            self._pool.put(origin, connection)
        return answer

    async def close(self) -> None:
        """Close all connections. Who still waits for an answer is told so."""
        self._is_closed = True
        self._pool.close()
        self._dialer.close()
        for connection in list(self._connections):
            connection.drop("closed")


def _target(policy: EndpointPolicy, url: str) -> _Target | Answer:
    """What is known of a URL; an answer if it may not be dialled at all."""
    try:
        policy.check_url(url)
    except Invalid as refusal:
        return Answer(None, refusal.code)
    parts = urlsplit(url)
    is_plain = parts.scheme == "http"
    usual = 80 if is_plain else 443
    host, port = parts.hostname or "", parts.port or usual
    name = f"[{host}]" if ":" in host else host
    authority = name if port == usual else f"{name}:{port}"
    path = (parts.path or "/") + (f"?{parts.query}" if "?" in url else "")
    head = f"POST {path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: {_USER_AGENT}\r\nAccept: */*\r\nContent-Length: "
    return _Target(Origin(host, port, is_plain), head)


def _head(target: _Target, body: bytes, headers: dict[str, str]) -> bytes:
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if not lines.count("\r") == lines.count("\n") == len(headers):
        raise ValueError("a header is more than one line")
    return f"{target.head}{len(body)}\r\n{lines}\r\n".encode("ascii")
