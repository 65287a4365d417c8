"""Where trackers report to: what visitors of the tracked sites do, and what they say of themselves.

Anyone can post here, so that nothing is believed but what a cookie or a signature proves, and nothing is told: an
answer depends on no profile.
"""

import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Any, Final
from uuid import UUID

import structlog
from aiohttp import web

from hub.actions.declare_from_site import Said, Trusted, declare_from_site
from hub.actions.visit import Visit, land, note
from hub.domain.clickers import ClickFacts, Verdict, classify, header_facts
from hub.domain.errors import Forbidden, Invalid, Refusal, TooLarge, TooMany
from hub.domain.events import Event
from hub.domain.link_tokens import digest, new_secret, visitor_id
from hub.domain.pages import clean, site_of_origin
from hub.http.answers.sites import Handle
from hub.http.collector_schemas import BatchIn, HandleIn, ResetIn, SiteIdentifyIn
from hub.http.context import CONTEXT, Context
from hub.http.operations import Answer, Body, operation
from hub.http.pace import Pace
from hub.http.problems import answer, middleware, problem
from hub.http.visitor_cookies import RECEIPT_PATH, clear_receipt, read_receipts, read_visitor, set_visitor
from hub.store.pool import Connection, TryAgain

log = structlog.get_logger()

MAX_BODY: Final = 64 * 1024
"""Bytes: no more can be under way while a page closes."""
PER_SECOND: Final = 10
_TRIES: Final = 3
_PACE: Final = web.AppKey("collector_pace", Pace)
_PREFLIGHT: Final = {
    "Access-Control-Allow-Methods": "POST",
    "Access-Control-Allow-Headers": "Content-Type",
    "Access-Control-Max-Age": "7200",
}


def add_routes(app: web.Application) -> None:
    """Put these paths into the application."""
    app[_PACE] = Pace(PER_SECOND)
    app.router.add_post(RECEIPT_PATH, collect)
    app.router.add_route("OPTIONS", RECEIPT_PATH, preflight)


_CORS: Final = {
    "Access-Control-Allow-Origin": "the page's",
    "Access-Control-Allow-Credentials": "true",
    "Vary": "Origin",
}
_FROM_SITES: Final = "Needs no key, but an `Origin` of a tracked site."


@operation(
    answers={204: Answer(text="It may report", media_type=None, headers=_CORS)},
    codes=("origin_not_allowed",),
    scopes=_FROM_SITES,
    tag="Tracked sites",
)
async def preflight(request: web.Request) -> web.StreamResponse:
    """Whether a page may report: only those of the tracked sites."""
    return await _shared(request, web.Response(status=204, headers=_PREFLIGHT))


@operation(
    body=Body(BatchIn, media_types=("text/plain",), text="JSON, of 64 kB at most"),
    answers={
        200: Answer(Handle, "Stored; and here is the handle that was asked for", headers=_CORS),
        204: Answer(text="Stored", media_type=None, headers=_CORS),
    },
    codes=(
        "origin_not_allowed",
        "bad_request",
        "too_many_reports",
        "invalid_signature",
        "signature_expired",
        "signature_used",
        "invalid_handle",
        "handle_used",
        "unavailable",
    ),
    scopes=_FROM_SITES,
    tag="Tracked sites",
)
async def collect(request: web.Request) -> web.StreamResponse:
    """Take a batch of a tracker in: 204 once it is committed."""
    return await _shared(request, None)


async def _shared(request: web.Request, ready: web.Response | None) -> web.StreamResponse:
    """Answer with what lets the page read the answer, refusals too."""
    site = site_of_origin(request.headers.get("Origin"), request.app[CONTEXT].tracking)
    if site is None:
        refused = await middleware(request, _refuse)
        refused.headers["Vary"] = "Origin"
        return refused

    async def take(request: web.Request) -> web.StreamResponse:
        return ready or await _Collection(request, site).take()

    response = await middleware(request, take)
    response.headers["Access-Control-Allow-Origin"] = request.headers["Origin"]
    response.headers["Access-Control-Allow-Credentials"] = "true"
    response.headers["Vary"] = "Origin"
    response.headers["Cache-Control"] = "no-store"
    return response


async def _refuse(_: web.Request) -> web.StreamResponse:
    raise Forbidden(
        "Only pages of the tracked sites may report here (rule F): add their domain to PARTYLINE_SITE_DOMAINS.",
        code="origin_not_allowed",
    )


# Reading ------------------------------------------------------------------------------------------------------------


async def _read(request: web.Request) -> BatchIn:
    """Raises `Refusal`, `TooLarge`, and pydantic's error with every fault at once."""
    body = bytearray()
    async for piece in request.content.iter_any():
        body += piece
        if len(body) > MAX_BODY:
            raise TooLarge(f"a batch has at most {MAX_BODY} bytes: report fewer events at once (rule F)")
    try:
        value = _cleaned(json.loads(body.decode()))
    except (RecursionError, ValueError) as error:
        raise Refusal(f"the body is no JSON that can be read: {type(error).__name__} (rule F)") from None
    return BatchIn.model_validate(value)


def _cleaned(value: Any) -> Any:
    """Scripts cut characters in halves, which is no fault of the page's visitor."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [_cleaned(one) for one in value]
    return {name: _cleaned(one) for name, one in value.items()} if isinstance(value, dict) else value


def _judge(request: web.Request, now: datetime) -> Verdict:
    facts: dict[str, Any] = {**header_facts(request.headers.items())}
    return classify(ClickFacts(request.method, now, **facts))


# Taking in ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Visitor:
    """Who reports; `secret` None: somebody without consent. `is_returning`: by a cookie that came."""

    secret: str | None
    is_returning: bool

    @property
    def id(self) -> UUID | None:
        return visitor_id(self.secret) if self.secret else None


class _Collection:
    """One batch on its way in. Its events belong to the visitor of the cookie, until a `reset` makes another."""

    def __init__(self, request: web.Request, site: str) -> None:
        self._request = request
        self._context: Context = request.app[CONTEXT]
        self._site = site
        self._now = datetime.now(UTC)
        self._refusals: list[Invalid] = []

    async def take(self) -> web.StreamResponse:
        """Store it, and answer. Raises `Refusal`."""
        verdict = _judge(self._request, self._now)
        if verdict.kind == "prefetch":
            return web.Response(status=204)
        batch = await _read(self._request)
        is_tracked = not verdict.opted_out and self._may_track(batch.consent)
        known = read_visitor(self._request) if is_tracked else None
        if not self._request.app[_PACE].take(known or batch.session, monotonic()):
            raise TooMany(
                f"More than {PER_SECOND} reports a second from one visitor (rule F): wait.",
                code="too_many_reports",
                retry_after=1,
            )
        first = _Visitor((known or new_secret()) if is_tracked else None, known is not None)
        receipts = read_receipts(self._request) if is_tracked else {}
        visits, declared, last = self._split(batch, first, list(receipts.values()))
        await self._store(visits, declared)
        response = problem(self._refusals[0]) if self._refusals else self._answer(batch, last)
        self._set_cookies(response, batch, last, receipts)
        return response

    def _may_track(self, consent: str) -> bool:
        """The browser's own refusal counts in every mode."""
        return consent == "granted" or (consent == "unset" and self._context.tracking.consent != "required")

    def _split(
        self, batch: BatchIn, first: _Visitor, receipts: list[str]
    ) -> tuple[list[Visit], list[tuple[SiteIdentifyIn, UUID | None]], _Visitor]:
        """What each visitor did, and what each declared; and who it is in the end."""
        visitor, visits = first, [self._visit(batch, first, tuple(map(digest, receipts)), batch.key_hash)]
        declared = []
        for event in batch.events:
            match event:
                case ResetIn():
                    visitor = _Visitor(new_secret() if visitor.secret else None, is_returning=False)
                    visits.append(self._visit(batch, visitor))
                case SiteIdentifyIn():
                    declared.append((event, visitor.id))
                case HandleIn():
                    pass
                case _:
                    if seen := event.seen(self._site, self._context.tracking):
                        visits[-1].events.append(seen)
        return visits, declared, visitor

    def _visit(
        self, batch: BatchIn, who: _Visitor, receipts: tuple[bytes, ...] = (), key: bytes | None = None
    ) -> Visit:
        return Visit(who.id, who.is_returning, self._site, batch.session, self._now, receipts, key)

    async def _store(self, visits: list[Visit], declared: list[tuple[SiteIdentifyIn, UUID | None]]) -> None:
        """One transaction, but for what is declared: that locks what a landing comes after. Then the events are stored
        last, so that a tracker which tries again, because the database was away half way, tells nothing twice.
        """
        if not declared:
            await self._in_transaction(lambda conn: self._take_in(conn, visits, visits))
            return
        await self._in_transaction(lambda conn: self._take_in(conn, (), visits))
        for event, visitor in declared:
            await self._declare(event, visitor)
        await self._in_transaction(lambda conn: self._take_in(conn, visits, ()))

    async def _take_in(self, conn: Connection, noted: Sequence[Visit], landed: Sequence[Visit]) -> list[Event]:
        for visit in noted:
            await note(conn, visit, self._context.tracking.consent)
        return [event for visit in landed for event in await land(conn, visit, self._context.tracking, self._now)]

    async def _declare(self, event: SiteIdentifyIn, visitor: UUID | None) -> None:
        """What cannot be read, or is not signed well, is told at the end; all else of it to nobody."""
        context = self._context
        trusted = Trusted(
            context.handles, context.site_secrets, context.phone_region, context.auto_merge, context.tracking.consent
        )
        said = Said(event.email, event.phone, event.consents, event.signed)
        try:
            await self._in_transaction(lambda conn: declare_from_site(conn, said, visitor, trusted, self._now))
        except Invalid as refusal:
            self._refusals.append(refusal)

    async def _in_transaction(self, work: Callable[[Connection], Awaitable[list[Event]]]) -> None:
        """Do it, again where it lost against others, and publish the events. Raises `TryAgain`, `Unavailable`."""
        for tries in range(_TRIES):
            try:
                async with self._context.database.transaction() as conn:
                    events = await work(conn)
            except TryAgain:
                if tries + 1 == _TRIES:
                    raise
            else:
                self._context.publish(events)
                return

    def _answer(self, batch: BatchIn, visitor: _Visitor) -> web.Response:
        if not isinstance(batch.events[-1], HandleIn):
            return web.Response(status=204)
        return answer({"handle": self._context.handles.make(visitor.id, self._now) if visitor.id else None})

    def _set_cookies(self, response: web.Response, batch: BatchIn, visitor: _Visitor, receipts: Iterable[str]) -> None:
        """Another person at the browser must not show this one's receipts."""
        if any(isinstance(event, ResetIn) for event in batch.events):
            for cookie in receipts:
                clear_receipt(response, cookie)
        if visitor.secret and not visitor.is_returning:
            is_partitioned = not self._context.tracking.has_own_collector(self._site)
            set_visitor(response, visitor.secret, is_partitioned=is_partitioned)
