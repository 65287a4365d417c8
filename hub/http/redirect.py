"""Where tracked links lead: the request is judged, the click is made durable, and only then answered (rule F).

What is answered depends on the link alone: nothing of the request's path, query, host or headers gets into it.
"""

from asyncio import Event, Future
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from http import HTTPStatus
from os import urandom
from typing import Final, Protocol

from aiohttp import web
from multidict import CIMultiDictProxy, istr

from hub.domain.clickers import ClickFacts, Verdict, classify
from hub.domain.errors import Unavailable
from hub.domain.ids import new_id
from hub.domain.link_tokens import VISITOR_COOKIE, digest, visitor_id
from hub.domain.tracking import Tracking
from hub.http.client_address import ClientAddresses
from hub.http.link_answers import Ready, cookies_of, may_be_ready, redirect, said, with_key
from hub.http.link_cache import LOOKUP_SECONDS, Link, LinkCache
from hub.http.link_misses import Misses
from hub.http.visitor_cookies import read_visitor
from hub.store.clicks import Click

_RETRY_SECONDS: Final = 5
_AGENT: Final = 512
"""Characters of an agent that are looked at and kept."""
_LONG: Final = 1024
"""Characters of the headers below that are remembered together with the verdict on them."""
_VERDICTS: Final = 8192
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_USER_AGENT: Final = istr("User-Agent")
_COOKIE: Final = istr("Cookie")
_TELLING: Final = tuple(
    istr(name)
    for name in ("Sec-Purpose", "Purpose", "X-Moz", "X-Purpose", "Sec-Fetch-Dest", "Sec-Fetch-Mode", "Sec-GPC")
)


def _drawn() -> Iterator[str]:
    """Secrets as `link_tokens.new_secret` makes them, from randomness drawn for 256 at a time: a system call for each
    costs more than making one.
    """
    while True:
        drawn = urlsafe_b64encode(urandom(256 * 18)).decode()
        yield from (drawn[start : start + 22] for start in range(0, len(drawn), 24))


_secrets: Final = _drawn()


class ClickBook(Protocol):
    """Takes clicks."""

    @property
    def is_away(self) -> bool:
        """Whether the database did not answer when it was last asked."""
        ...

    async def comes_back(self, seconds: float) -> bool:
        """Whether the database answers again, within so many seconds."""
        ...

    def submit(self, click: Click) -> "Future[None]":
        """Gives what is done once the click is durable. It raises `Unavailable`."""
        ...


class Redirect:
    """Answers requests to tracked links."""

    def __init__(
        self, links: LinkCache, clicks: ClickBook, tracking: Tracking, clients: ClientAddresses, is_stopping: Event
    ) -> None:
        self._links = links
        self._clicks = clicks
        self._asks_first = tracking.consent == "required"
        self._clients = clients
        self._is_stopping = is_stopping
        self._misses = Misses()
        self._ready = Ready()

    async def follow(self, request: web.Request, token: str) -> web.StreamResponse:
        """Answer a GET or HEAD of a token."""
        at = datetime.now(UTC)
        token_hash = digest(token)
        link = self._links.get(token_hash)
        if link is None or (link.accepted_at is None and link.medium is not None):
            found = await self._find(request, token_hash)
            if isinstance(found, web.Response):
                return found
            link = found
        if at > link.redirects_until or link.disabled_at is not None:
            return said(HTTPStatus.GONE, "This link has expired.")
        return await self._follow(request, link, at)

    async def _follow(self, request: web.Request, link: Link, at: datetime) -> web.StreamResponse:
        agent, verdict = judge(request.method, request.headers, link, at)
        visitor = receipt = key = None
        if verdict.gets_cookie and self._may_know(link, at):
            if link.is_foreign:
                key = next(_secrets)
            else:
                is_known = any(VISITOR_COOKIE in given for given in request.headers.getall(_COOKIE, ()))
                visitor = (read_visitor(request) if is_known else None) or next(_secrets)
                receipt = next(_secrets) if link.site is not None else None
        click = Click(
            new_id(),
            at,
            link.id,
            verdict.kind,
            verdict.reason,
            verdict.counts,
            visitor_id(visitor) if visitor is not None else None,
            digest(receipt) if receipt is not None else None,
            digest(key) if key is not None else None,
            link.site,
            verdict.opted_out,
            agent,
            self._clients.prefix_of(request),
            verdict.makes_suspect,
        )
        try:
            await self._clicks.submit(click)
        except Unavailable:
            return _busy()
        if verdict.answer == "retry_later":
            return said(HTTPStatus.SERVICE_UNAVAILABLE, "Not in advance.")
        location = link.target if key is None else with_key(link.target, key)
        cookies = cookies_of(visitor, receipt) if visitor is not None else []
        if may_be_ready(request) and not self._is_stopping.is_set():
            return self._ready.send(request, location, cookies)
        return redirect(location, cookies)

    def _may_know(self, link: Link, at: datetime) -> bool:
        """Whether consent lets the browser be known again: where it is asked for, a link that still tells who clicked
        stands for it.
        """
        return not self._asks_first or (link.is_personal and at <= link.identifies_until)

    async def _find(self, request: web.Request, token_hash: bytes) -> Link | web.Response:
        """A link that is not remembered, or not as it is now; or why there is none."""
        known = self._links.peek(token_hash)
        prefix = self._clients.prefix_of(request)
        if known is None and (wait := self._misses.wait_of(prefix)):
            return said(HTTPStatus.TOO_MANY_REQUESTS, "Too many links that do not exist.", retry_after=wait)
        if known is not None and self._clicks.is_away:
            return _taken_for_accepted(known)
        try:
            if self._clicks.is_away and not await self._clicks.comes_back(LOOKUP_SECONDS):
                raise Unavailable("the database is away")
            link = None if self._links.is_unknown(token_hash) else await self._links.find(token_hash)
        except Unavailable:
            return _taken_for_accepted(known) if known is not None else _busy()
        if link is None:
            self._misses.add(prefix)
            return said(HTTPStatus.NOT_FOUND, "This link does not exist.")
        return link


def _taken_for_accepted(link: Link) -> Link:
    """A link as it was when it was last read. Its provider had not taken the message by then, and nobody can tell now;
    but who comes with a link has it, and nothing is handed over while the database is away.
    """
    return link if link.accepted_at is not None else replace(link, accepted_at=link.created_at)


def _busy() -> web.Response:
    return said(HTTPStatus.SERVICE_UNAVAILABLE, "Please try again in a moment.", retry_after=_RETRY_SECONDS)


# Judging ------------------------------------------------------------------------------------------------------------


def judge(method: str, headers: CIMultiDictProxy[str], link: Link, at: datetime) -> tuple[str | None, Verdict]:
    """The agent as it is kept, and who it is."""
    agent = headers.get(_USER_AGENT)
    if agent is not None:
        agent = _storable(agent[:_AGENT])
    telling = tuple([_joined(headers, name) if name in headers else None for name in _TELLING])
    is_early = link.medium is not None and (link.accepted_at is None or at < link.accepted_at)
    look = _verdict if sum([len(value) for value in telling if value]) <= _LONG else _verdict.__wrapped__
    return agent, look(method, link.medium, link.is_personal, is_early, agent, telling)


@lru_cache(_VERDICTS)
def _verdict(
    method: str,
    medium: str | None,
    is_personal: bool,
    is_early: bool,
    agent: str | None,
    telling: tuple[str | None, ...],
) -> Verdict:
    """The verdict depends on the time in one thing only: whether it is early."""
    accepted_at = _EPOCH + timedelta(1) if is_early else _EPOCH
    return classify(ClickFacts(method, _EPOCH, medium, is_personal, accepted_at, agent, *telling))


def _joined(headers: CIMultiDictProxy[str], name: str) -> str:
    return ", ".join(headers.getall(name))


def _storable(text: str) -> str:
    """Without what is no text, as any bytes may come in a header."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
