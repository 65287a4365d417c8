"""The adapter API: the templates of a number, as its providers list them (rule E10)."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from aiohttp import web

from hub.actions.roster import Caller
from hub.actions.templates import LEAST, find_template_senders, is_due, view_templates
from hub.domain.errors import Invalid, Refusal
from hub.http.answers.numbers import Templates
from hub.http.auth import service
from hub.http.context import CONTEXT, Context
from hub.http.operations import operation
from hub.http.params import E164, LIMIT, Parameter, choice, flag
from hub.http.problems import answer
from hub.http.provider_calls import asking
from hub.store import templates
from hub.store.pool import Record

log = structlog.get_logger()

_PATIENCE: Final = 30.0
"""Seconds a provider has to tell all of its templates."""
_MAX_PLACE: Final = 18
"""Digits of a sender's number in a cursor."""


def _place(text: str) -> tuple[int, str]:
    """Where a page begins: behind this template of this sender. Raises `Invalid`."""
    sender, point, name = text.partition(".")
    if not (point and name and sender.isascii() and sender.isdigit() and len(sender) <= _MAX_PLACE):
        raise Invalid("after must be the next of an earlier page")
    return int(sender), name


_PLACE: Final = {"type": "string", "pattern": rf"^[0-9]{{1,{_MAX_PLACE}}}\..+$"}
_AFTER: Final = Parameter("after", "the `next` of the page before", _PLACE, _place, default=(0, ""))
_MEDIUM: Final = choice("medium", "of this medium alone", ("whatsapp", "sms"))
_REFRESH: Final = flag("refresh", "read the provider's list anew, at most once a minute")


@dataclass(frozen=True, slots=True)
class _Failure:
    """The provider did not tell its templates, just now."""

    at: datetime
    refusal: Refusal


class TemplateDesk:
    """Reads providers' lists into the cache: one at a time per sender, and not again at once where that failed."""

    def __init__(self) -> None:
        self._locks: dict[int, asyncio.Lock] = {}
        self._failures: dict[int, _Failure] = {}

    async def refresh(self, context: Context, sender: Record, *, is_asked: bool) -> Refusal | None:
        """Read a sender's list anew where that is due; gives why it could not be."""
        began = datetime.now(UTC)
        async with self._locks.setdefault(sender["id"], asyncio.Lock()):
            async with context.database.reading() as conn:  # somebody may have done it while we waited
                refreshed_at = await templates.find_refreshed_at(conn, sender["id"])
            now = datetime.now(UTC)
            if not is_due(refreshed_at, now, is_asked=is_asked):
                return None
            failure = self._failures.get(sender["id"])
            # Who waited while another asked has had that answer; where there is no list yet, the next may ask at once.
            if failure and (failure.at >= began or (now - failure.at < LEAST and refreshed_at is not None)):
                return failure.refusal
            return await self._read(context, sender)

    async def _read(self, context: Context, sender: Record) -> Refusal | None:
        provider = sender["provider"]
        try:
            async with asking(provider, "list its templates", _PATIENCE):
                found = await context.providers[provider].list_templates(sender["external_id"], sender["account"])
        except Refusal as refusal:
            self._failures[sender["id"]] = _Failure(datetime.now(UTC), refusal)
            log.warning("templates.not_refreshed", sender=sender["id"], provider=provider, code=refusal.code)
            return refusal
        async with context.database.transaction() as conn:
            await templates.replace(conn, sender["id"], found, datetime.now(UTC))
        self._failures.pop(sender["id"], None)
        log.info("templates.refreshed", sender=sender["id"], provider=provider, templates=len(found))
        return None


_DESK: Final = web.AppKey("template_desk", TemplateDesk)


def add_routes(app: web.Application) -> None:
    """Put these paths into the application."""
    app[_DESK] = TemplateDesk()
    app.router.add_get("/v1/numbers/{e164}/templates", service(list_templates, "read"))


@operation(
    path=(E164,),
    query=(_AFTER, LIMIT, _MEDIUM, _REFRESH),
    answers={200: Templates},
    codes=("not_connected", "provider_refused", "provider_unavailable"),
)
async def list_templates(request: web.Request, caller: Caller) -> web.Response:
    """The templates of all senders that have such a list; as they were read last where a provider cannot be asked."""
    context, limit, after = request.app[CONTEXT], LIMIT.read(request), _AFTER.read(request)
    is_asked, medium, e164 = _REFRESH.read(request), _MEDIUM.find(request), E164.read(request)
    async with context.database.transaction() as conn:
        senders = _chosen(context, await find_template_senders(conn, e164, caller.service_id), medium)
    desk = request.app[_DESK]
    refusals = await asyncio.gather(*(desk.refresh(context, sender, is_asked=is_asked) for sender in senders))
    trouble = dict(zip((sender["id"] for sender in senders), refusals, strict=True))
    async with context.database.transaction() as conn:
        senders = _chosen(context, await find_template_senders(conn, e164, caller.service_id), medium)
        items, place = await view_templates(conn, senders, after, limit)
    for sender in senders:
        refusal = trouble.get(sender["id"])
        if refusal is not None and sender["templates_refreshed_at"] is None:
            raise refusal
    return answer({"items": items, "next": f"{place[0]}.{place[1]}" if place else None, **_state(senders, trouble)})


def _state(senders: Sequence[Record], trouble: Mapping[int, Refusal | None]) -> dict[str, Any]:
    """How fresh the list is: as a whole by its oldest part, and by sender."""
    parts = [
        {
            "medium": sender["medium"],
            "provider": sender["provider"],
            "refreshed_at": sender["templates_refreshed_at"],
            "stale": refusal is not None,
            "error": {"code": refusal.code, "detail": refusal.detail, **refusal.facts} if refusal else None,
        }
        for sender in senders
        for refusal in [trouble.get(sender["id"])]
    ]
    times = [part["refreshed_at"] for part in parts if part["refreshed_at"]]
    return {
        "refreshed_at": min(times, default=None),
        "stale": any(part["stale"] for part in parts),
        "senders": parts,
    }


def _chosen(context: Context, senders: Sequence[Record], medium: str | None) -> list[Record]:
    return [
        sender
        for sender in senders
        if medium in {None, sender["medium"]}
        and "templates" in context.capabilities.get(sender["provider"], {}).get(sender["medium"], ())
    ]
