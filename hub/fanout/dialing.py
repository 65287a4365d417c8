"""Connecting to endpoints: a name is looked up, every address is judged, and what was judged is dialled."""

import asyncio
import errno
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import zip_longest
from typing import Final, NamedTuple

from hub.domain.endpoints import EndpointPolicy, is_literal
from hub.fanout.http1 import Connection

LookUp = Callable[[str], Sequence[str]]
"""Gives the addresses of a name, best first; may block. Raises OSError."""

FRESH: Final = 10.0
"""Seconds for which a look-up counts."""
_KEPT: Final = 3600.0
"""Seconds for which it still counts while the name servers do not answer."""
_PATIENCE: Final = 1.0
"""Seconds until a name server counts as one that does not answer, if the name's former addresses are known."""
_THREADS: Final = 16
_SLOW: Final = 2.0
"""Seconds; a name that took longer may not keep the threads of the others the next time."""
_SLOW_THREADS: Final = 4
_MOST_NAMES: Final = 4096
_MOST_ADDRESSES: Final = 6
"""Addresses of a name that are tried: nobody is to be made busy by one who publishes thousands."""
_OUT_OF_SOCKETS: Final = {errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM}


class Origin(NamedTuple):
    """Where a connection leads."""

    host: str
    port: int
    is_plain: bool


class DialError(Exception):
    """There is no connection; `problem` is one of those of `Answer`."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


def look_up(host: str) -> Sequence[str]:
    """Ask the system's resolver, which may take long."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


@dataclass(frozen=True, slots=True)
class _Known:
    addresses: Sequence[str]
    since: float


class Resolver:
    """Looks names up in threads of its own; who asks for the same name at the same time waits for the same look-up.

    Threads are few, and name servers that hang keep them. So a name that took long the last time waits with its like,
    and a name whose addresses were known can be dialled all the same.
    """

    def __init__(self, look_up: LookUp = look_up, clock: Callable[[], float] = time.monotonic) -> None:
        self._look_up = look_up
        self._clock = clock
        self._threads = ThreadPoolExecutor(_THREADS, "delivery-dns")
        self._slow_threads = ThreadPoolExecutor(_SLOW_THREADS, "delivery-slow-dns")
        self._slow: set[str] = set()
        self._known: dict[str, _Known] = {}
        self._running: dict[str, asyncio.Future[Sequence[str]]] = {}

    async def resolve(self, host: str) -> Sequence[str]:
        """Addresses of a name. Raises OSError or UnicodeError where there are none, DialError at the end."""
        known = self._known.get(host)
        if known and self._clock() < known.since + FRESH:
            return known.addresses
        running = self._running.get(host) or self._start(host)
        is_usable = known and self._clock() < known.since + _KEPT
        await asyncio.wait([running], timeout=_PATIENCE if is_usable else None)
        if known and is_usable and (not running.done() or _is_no_answer(running)):
            return known.addresses
        if running.cancelled():
            raise DialError("closed")
        return running.result()

    def _start(self, host: str) -> asyncio.Future[Sequence[str]]:
        if len(self._slow) > _MOST_NAMES:
            self._slow.clear()
        threads = self._slow_threads if host in self._slow else self._threads
        running = asyncio.get_running_loop().run_in_executor(threads, self._look_up_timed, host)
        self._running[host] = running
        running.add_done_callback(lambda done: self._note(host, done))
        return running

    def _look_up_timed(self, host: str) -> Sequence[str]:
        """In a thread."""
        started = self._clock()
        try:
            return self._look_up(host)
        finally:
            (self._slow.add if self._clock() - started > _SLOW else self._slow.discard)(host)

    def _note(self, host: str, done: asyncio.Future[Sequence[str]]) -> None:
        self._running.pop(host, None)
        if done.cancelled() or done.exception():  # asked for, so that an error nobody waits for is no news in the log
            return
        self._known.pop(host, None)
        while len(self._known) >= _MOST_NAMES:
            del self._known[next(iter(self._known))]
        self._known[host] = _Known(done.result(), self._clock())

    def close(self) -> None:
        """Wait for no look-up any more."""
        for running in list(self._running.values()):
            running.cancel()
        for threads in (self._threads, self._slow_threads):
            threads.shutdown(wait=False, cancel_futures=True)


def _is_no_answer(done: asyncio.Future[Sequence[str]]) -> bool:
    """Whether the name servers were at fault, and not the name."""
    error = None if done.cancelled() else done.exception()
    return isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN


class Dialer:
    """Makes connections, only to addresses that the policy allows."""

    def __init__(self, policy: EndpointPolicy, resolver: Resolver, tls: ssl.SSLContext | None) -> None:
        self._policy = policy
        self._resolver = resolver
        self._tls = tls or _default_tls()

    async def dial(self, origin: Origin, deadline: float) -> Connection:
        """Connect, until a time of the loop's clock. Raises `DialError`.

        Addresses are tried one after another, each for its share of the time that is left.
        """
        addresses = await self._allowed(origin, deadline)
        clock = asyncio.get_running_loop().time
        problem = "timeout"
        for tried, address in enumerate(addresses):
            share = (deadline - clock()) / (len(addresses) - tried)
            try:
                async with asyncio.timeout(share):
                    return await self._connect(origin, address)
            except OSError as error:
                problem = _problem(error, is_plain=origin.is_plain)
        raise DialError(problem)

    async def _allowed(self, origin: Origin, deadline: float) -> Sequence[str]:
        if is_literal(origin.host):
            found: Sequence[str] = [origin.host]
        else:
            try:
                async with asyncio.timeout_at(deadline):
                    found = await self._resolver.resolve(origin.host)
            except TimeoutError:
                raise DialError("timeout") from None
            except (OSError, UnicodeError):
                raise DialError("dns_failed") from None
        allowed = [address for address in found if self._policy.may_dial(address, is_plain=origin.is_plain)]
        if not allowed:
            raise DialError("endpoint_not_allowed")
        return _alternated(allowed)[:_MOST_ADDRESSES]

    async def _connect(self, origin: Origin, address: str) -> Connection:
        """Connect to an address; an address is never looked up."""
        loop = asyncio.get_running_loop()
        if origin.is_plain:
            _, made = await loop.create_connection(Connection, address, origin.port)
        else:
            name = origin.host.rstrip(".")
            _, made = await loop.create_connection(
                Connection, address, origin.port, ssl=self._tls, server_hostname=name
            )
        return made

    def close(self) -> None:
        """Wait for no look-up any more."""
        self._resolver.close()


@cache
def _default_tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _alternated(addresses: Sequence[str]) -> list[str]:
    """One family after the other, beginning with that of the best address: one of the two may lead nowhere."""
    families: tuple[list[str], list[str]] = ([], [])
    for address in addresses:
        families[(":" in address) is not (":" in addresses[0])].append(address)
    return [address for pair in zip_longest(*families) for address in pair if address]


def _problem(error: OSError, *, is_plain: bool) -> str:
    """The word for why there is no connection."""
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, ConnectionRefusedError):
        return "connection_refused"
    if isinstance(error, ssl.SSLError) or (isinstance(error, ConnectionError) and not is_plain):
        return "tls_failed"
    return "out_of_sockets" if error.errno in _OUT_OF_SOCKETS else "connection_failed"
