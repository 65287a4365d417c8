"""Verb: write down what was learnt of a sender's health, and tell the services on its number."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from hub.actions.announce import Place, channel_event
from hub.domain import sender_health as rules
from hub.domain.events import EventDraft
from hub.domain.sender_health import Health, News
from hub.store import account_routes, sender_health
from hub.store.account_routes import SenderPlace
from hub.store.pool import Connection
from hub.store.sender_health import SeenHealth
from providers.base import NotTaken, Refused, SenderCheck, SendError, Sent, StatusReported

_OLD: Final = timedelta(minutes=10)

log = structlog.get_logger()


async def note_outcome(
    conn: Connection, sender_id: int, outcome: Sent | SendError, now: datetime, *, is_unwell: bool | None = None
) -> list[EventDraft]:
    """What a send's outcome tells of its sender. A refusal for token or account raises the problem; a success clears
    what it disproves. Locks the sender's health: call it behind messages, before events are appended.

    `is_unwell`: whether something was known to be wrong with the sender when the message was handed out, which is all
    a success can disprove; None: look (one statement). Where nothing can change there is no statement.
    """
    if isinstance(outcome, Sent):
        if is_unwell is None:
            is_unwell = await sender_health.is_unwell(conn, sender_id)
        return await change(conn, sender_id, now, lambda health: _disproved(health, now)) if is_unwell else []
    if not isinstance(outcome, Refused | NotTaken):
        return []
    scope = outcome.scope if isinstance(outcome, NotTaken) else None
    news = rules.news_of_refusal(outcome.code, outcome.provider_code, scope)
    return await take_news(conn, sender_id, news, now) if news else []


def _disproved(health: Health, now: datetime) -> Health:
    return rules.take(health, rules.news_of_success(health, now), now)


async def take_news(conn: Connection, sender_id: int, news: News, now: datetime) -> list[EventDraft]:
    """Write down what a source says; gives the events where that changes something for services."""
    return await change(conn, sender_id, now, lambda health: rules.take(health, news, now))


async def note_reported(
    conn: Connection, reports: Sequence[tuple[int, StatusReported]], now: datetime
) -> list[EventDraft]:
    """What status reports tell of their senders: some providers take a message first and refuse it then. No statement
    where they tell nothing. What was reported long ago is no news.
    """
    found: dict[int, News] = {}
    for sender_id, item in reports:
        is_old = item.at is not None and now.timestamp() - item.at > _OLD.total_seconds()
        for error in () if is_old else item.errors:
            news = rules.news_of_refusal(error["code"], error["provider_code"], None)
            if news:
                found[sender_id] = News("report", {**found.get(sender_id, news).raises, **news.raises})
    return [draft for sender_id in sorted(found) for draft in await take_news(conn, sender_id, found[sender_id], now)]


async def note_check(conn: Connection, sender_id: int, check: SenderCheck, now: datetime) -> list[EventDraft]:
    """What the provider answered when it was asked."""

    def rule(health: Health) -> Health:
        news = rules.news_of_check(health, check.problems, check.judged, check.facts, now)
        return rules.take(health, news, now)

    drafts = await change(conn, sender_id, now, rule)
    await sender_health.note_check(conn, sender_id, now)
    return drafts


async def note_failed_check(
    conn: Connection, sender_id: int, error: SendError, failures: int, now: datetime
) -> list[EventDraft]:
    """The provider could not be asked, so many times in a row."""
    news = rules.news_of_failed_check(error.code, error.provider_code, error.detail, failures)
    return await take_news(conn, sender_id, news, now) if news else []


async def note_silence(conn: Connection, sender_id: int, detail: str | None, now: datetime) -> list[EventDraft]:
    """Whether callbacks are silent, and what is to be said of it."""
    raises = {"callbacks_silent": detail} if detail else {}
    clears = () if detail else ("callbacks_silent",)
    return await take_news(conn, sender_id, News("silence", raises, clears), now)


async def list_views(
    conn: Connection, sender_ids: Sequence[int], *, in_full: bool = False
) -> dict[int, dict[str, Any]]:
    """How these senders are, as services or (`in_full`) the operator see it; one that nothing is known of yet has no
    problem.
    """
    known = await sender_health.list_health(conn, sender_ids)
    unknown = SeenHealth(Health(), None)
    seen = {sender_id: known.get(sender_id, unknown) for sender_id in sender_ids}
    return {
        sender_id: {**rules.health_view(s.health, in_full=in_full), "checked_at": s.checked_at}
        for sender_id, s in seen.items()
    }


async def change(
    conn: Connection,
    sender_id: int,
    now: datetime,
    rule: Callable[[Health], Health],
    place: SenderPlace | None = None,
) -> list[EventDraft]:
    """Apply a rule to the health of a sender, which is locked for it; `place` where it is known already."""
    before = await sender_health.lock(conn, sender_id)
    after = rule(before)
    if after is before:
        return []
    await sender_health.save(conn, sender_id, after)
    if not rules.is_worth_telling(before, after):
        return []
    place = place or await account_routes.find_place(conn, sender_id)
    assert place is not None
    _log(place, before, after)
    return [_event(place, channel, before, after, now) for channel in range(len(place.channels))]


def _log(place: SenderPlace, before: Health, after: Health) -> None:
    log.info(
        "sender.health_changed",
        sender=place.sender_id,
        provider=place.provider,
        medium=place.medium,
        state=after.state,
        previous=before.state,
        problems=",".join(sorted(after.problems)),
    )


def _event(place: SenderPlace, channel: int, before: Health, after: Health, now: datetime) -> EventDraft:
    return channel_event(
        "sender.health_changed",
        Place(place.number_id, place.e164, place.channels[channel]),
        now,
        sender={"medium": place.medium, "provider": place.provider},
        health=rules.health_view(after),
        previous={"state": before.state},
    )
