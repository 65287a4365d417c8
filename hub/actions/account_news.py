"""Verb: take in what a provider says of accounts, senders and templates of the business, not of a customer."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Final

import structlog

from hub.actions import sender_health
from hub.actions.announce import Place, channel_event
from hub.domain import sender_health as rules
from hub.domain.events import EventDraft
from hub.domain.sender_health import Health, News
from hub.store import account_routes, templates
from hub.store.account_routes import SenderPlace
from hub.store.pool import Connection
from providers.base import AccountRef, SenderNotice, TemplateChanged

log = structlog.get_logger()

AccountNews = tuple[TemplateChanged | SenderNotice, Sequence[SenderPlace]]
"""What was said, and the senders it concerns."""

TEMPLATE_STATUSES: Final = {
    "approved": "approved", "reinstated": "approved", "unarchived": "approved", "pending": "pending",
    "rejected": "rejected", "paused": "paused", "disabled": "disabled",
}  # fmt: skip
"""Words of a provider's notice that tell the status a template has in its list; others do not."""


async def find_places(conn: Connection, refs: Collection[AccountRef]) -> dict[AccountRef, Sequence[SenderPlace]]:
    """The senders that notices with these names are about; those that fit none are left out."""
    return await account_routes.find_places(conn, refs)


async def take_news(conn: Connection, news: Sequence[AccountNews], now: datetime) -> list[EventDraft]:
    """Write down what the provider says, in this order; gives an event for every channel of the numbers concerned.

    Locks senders (templates) and then the health of senders, each in the order of their ids: call it behind messages,
    before events are appended.
    """
    changes = [(item, places) for item, places in news if isinstance(item, TemplateChanged)]
    notices = [(item, places) for item, places in news if isinstance(item, SenderNotice)]
    drafts = [draft for item, places in changes for draft in await _take_template(conn, item, places, now)]
    by_sender = {place.sender_id: place for _, places in notices for place in places}
    for sender_id, place in sorted(by_sender.items()):
        mine = [item for item, places in notices if any(p.sender_id == sender_id for p in places)]
        drafts += await _take_notices(conn, mine, place, now)
    return drafts


async def _take_template(
    conn: Connection, item: TemplateChanged, places: Sequence[SenderPlace], now: datetime
) -> list[EventDraft]:
    status = TEMPLATE_STATUSES.get(str(item.content.get("current"))) if item.change == "status" else None
    category = item.content.get("current") if item.change == "category" else None
    wanted = templates.TemplateNews(item.external_id, item.name, item.language, status, category)
    for sender_id in sorted({place.sender_id for place in places}):
        await templates.note_change(conn, sender_id, wanted)
    log.info("template.changed", change=item.change, senders=len(places))
    return [_template_event(item, place, now) for place in _channels_of(places)]


def _channels_of(places: Sequence[SenderPlace]) -> list[Place]:
    """Every channel once: an account may have several senders of one number."""
    found = {
        channel_id: Place(place.number_id, place.e164, channel_id) for place in places for channel_id in place.channels
    }
    return list(found.values())


def _template_event(item: TemplateChanged, place: Place, now: datetime) -> EventDraft:
    return channel_event(
        "template.changed",
        place,
        now,
        template={"external_id": item.external_id, "name": item.name, "language": item.language},
        change=item.change,
        previous=item.content.get("previous"),
        current=item.content.get("current"),
        reason=item.content.get("reason"),
        **({"correct": item.content["correct"]} if "correct" in item.content else {}),
    )


async def _take_notices(
    conn: Connection, notices: Sequence[SenderNotice], place: SenderPlace, now: datetime
) -> list[EventDraft]:
    """All that was said of one sender; services hear of what it comes to."""
    return await sender_health.change(conn, place.sender_id, now, partial(_after, notices=notices, now=now), place)


def _after(health: Health, notices: Sequence[SenderNotice], now: datetime) -> Health:
    for item in notices:
        news = News("webhook", item.raises, item.clears, item.facts)
        at = datetime.fromtimestamp(item.at, UTC) if item.at is not None else None
        health = rules.take_notice(health, item.topic, news, at, now)
    return health
