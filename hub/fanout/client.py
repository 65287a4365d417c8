"""The HTTP side of delivery: one POST, bounded in time and size, to an address that was checked."""

import asyncio
import io
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from hub.domain.endpoints import EndpointPolicy
from hub.domain.errors import Invalid

MAX_ANSWER: Final = 16 * 1024
"""Bytes of an answer that are read; the rest, and the connection, are dropped."""
_LARGE: Final = 1024 * 1024
_DNS_THREADS: Final = 16
_DNS_TTL: Final = 10


class NotAllowedError(OSError):
    """A name resolved to nothing that may be dialled."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How an endpoint answered; `status` is None where it did not, and `problem` says why."""

    status: int | None
    problem: str | None = None
    retry_after: float | None = None

    @property
    def is_accepted(self) -> bool:
        """Whether the event is delivered."""
        return self.status is not None and 200 <= self.status < 300


class _GuardedResolver(AbstractResolver):
    """Resolves in threads of its own and gives only addresses that may be dialled: what was checked is dialled."""

    def __init__(self, policy: EndpointPolicy, threads: ThreadPoolExecutor, *, is_plain: bool) -> None:
        self._policy = policy
        self._threads = threads
        self._is_plain = is_plain

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Look a name up. Raises `NotAllowedError`, or OSError where it does not resolve."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
        )
        allowed = [
            ResolveResult(hostname=host, host=str(address[0]), port=port, family=kind, proto=proto, flags=0)
            for kind, _, proto, _, address in found
            if self._policy.may_dial(str(address[0]), is_plain=self._is_plain)
        ]
        if not allowed:
            raise NotAllowedError(f"{host} resolves to no address that is allowed for endpoints")
        return allowed

    async def close(self) -> None:
        """The threads are shared; nothing to do."""


class DeliveryClient:
    """Posts to endpoints. No redirects, no cookies, no limit shared between endpoints."""

    def __init__(self, policy: EndpointPolicy, *, timeout: float) -> None:
        self._threads = ThreadPoolExecutor(_DNS_THREADS, "delivery-dns")
        self._refused = lru_cache(maxsize=4096)(partial(_refusal, policy))
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._sessions = {is_plain: self._session(policy, is_plain=is_plain) for is_plain in (False, True)}

    def _session(self, policy: EndpointPolicy, *, is_plain: bool) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=0, ttl_dns_cache=_DNS_TTL, resolver=_GuardedResolver(policy, self._threads, is_plain=is_plain)
        )
        return aiohttp.ClientSession(
            connector=connector,
            timeout=self._timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            headers={"User-Agent": "Partyline/1"},
        )

    async def post(self, url: str, body: bytes, headers: dict[str, str]) -> Answer:
        """Deliver one body. Never raises for what the endpoint or the network does."""
        refused = self._refused(url)  # the resolver is not asked about addresses, and settings may have changed
        if refused:
            return Answer(None, refused)
        session = self._sessions[url[:5].lower() == "http:"]
        try:
            async with session.post(url, data=_payload(body), headers=headers, allow_redirects=False) as response:
                await response.content.read(MAX_ANSWER)
                return Answer(response.status, retry_after=_seconds(response.headers.get("Retry-After")))
        except TimeoutError:
            return Answer(None, "timeout")
        except NotAllowedError:
            return Answer(None, "endpoint_not_allowed")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            cause = error.__cause__ or error
            is_refused = isinstance(cause, NotAllowedError)
            return Answer(None, "endpoint_not_allowed" if is_refused else type(error).__name__)

    async def close(self) -> None:
        """Close all connections."""
        for session in self._sessions.values():
            await session.close()
        self._threads.shutdown(wait=False, cancel_futures=True)


def _refusal(policy: EndpointPolicy, url: str) -> str | None:
    """Why this URL is not dialled, if it is not."""
    try:
        policy.check_url(url)
    except Invalid as refusal:
        return refusal.code
    return None


def _payload(body: bytes) -> bytes | io.BytesIO:
    """A large body is written in pieces, so that it does not hold up the loop (and aiohttp does not warn of it)."""
    return body if len(body) < _LARGE else io.BytesIO(body)


def _seconds(retry_after: str | None) -> float | None:
    try:
        return min(float(retry_after), 86_400.0) if retry_after else None
    except ValueError:
        return None
