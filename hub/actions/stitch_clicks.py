"""Verb: decide whose a browser is, after a click and the page that it led to (rules K1 to K6).

Whichever of the two arrives last has it decided: the collector calls this after it stored a page with receipts or a
key, the replay of clicks after it stored those. Each click is decided once per visitor; what waits for a landing may
be decided again.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import structlog

from hub.actions import ledger
from hub.actions.consents import may_track
from hub.actions.identity_events import person
from hub.actions.tell_profile import profile_drafts
from hub.domain.addresses import Address
from hub.domain.bindings import WEEK, Bind, survivor
from hub.domain.events import Event, EventDraft
from hub.domain.ids import public_id
from hub.domain.stitching import Click, ClickDecision, ClickFacts, Link, Outcome, Page, stitch, why_no_landing
from hub.domain.tracking import Tracking
from hub.store import bindings, event_log, identity_locks, landings, profiles, visitors
from hub.store.landings import Landing
from hub.store.pool import Connection, Record

log = structlog.get_logger()

_RULES: Final[dict[Outcome, str]] = {
    "session_only": "K4", "bound": "K3", "confirmed": "K4", "already_bound": "K3", "moved": "K5", "stays": "K6",
    "overtaken": "K5", "limited": "limits",
}  # fmt: skip
"""The rule of each outcome that may change anything."""
_TOLD: Final = frozenset({"bound", "confirmed", "moved"})
_UNTOLD_CONTACT: Final = frozenset({"anonymous", "no_consent"})
"""Outcomes of which nothing is kept that says whose link it was."""


@dataclass(frozen=True, slots=True)
class _Landed:
    """A click on its landing, as read under the locks."""

    click: Click
    page: Page
    link: Link
    row: Record


async def stitch_clicks(
    conn: Connection, click_ids: Sequence[UUID], tracking: Tracking, now: datetime
) -> list[Event]:  # fmt: skip
    """Decide what these clicks came to, as far as their pages are there, write it, and log the events. Takes the locks
    of proofs (7011), visitors, links, contacts and, by the events, shards: call it last, holding none after 7009.
    """
    if not click_ids:
        return []
    await landings.lock_clicks(conn, click_ids, now)
    waiting = await landings.list_waiting(conn, click_ids, now)
    if not waiting:
        return []
    await identity_locks.lock_visitors(conn, await visitors.list_browser(conn, _visitors(waiting)))
    people = await _lock_people(conn, waiting)
    drafts: list[EventDraft] = []
    for landed in await _read_landed(conn, click_ids, _visitors(waiting), people, now):
        drafts += await _stitch(conn, landed, tracking, now)
    return await event_log.append(conn, drafts)


def _visitors(rows: Iterable[Record]) -> set[UUID]:
    return {row["visitor_id"] for row in rows}


async def _lock_people(conn: Connection, waiting: Sequence[Record]) -> set[UUID]:
    """Lock the links, their contacts, who these visitors are now, and what all of them were merged into; gives those
    contacts that there are still.
    """
    await identity_locks.lock_links(conn, {row["link_id"] for row in waiting})
    known = await bindings.list_bindings(conn, _visitors(waiting))
    people = {row["contact_id"] for row in waiting if row["contact_id"]}
    people |= {binding.contact_id for held in known.values() for binding in held}
    chains = await profiles.read_survivors(conn, people)
    return await identity_locks.lock_contacts(conn, people | set(chains) | set(chains.values()))


async def _read_landed(
    conn: Connection, click_ids: Sequence[UUID], locked: Collection[UUID], people: Collection[UUID], now: datetime
) -> list[_Landed]:
    """The clicks that are on their landings, oldest first, each once per visitor: read again, under the locks."""
    found: dict[tuple[UUID, UUID], _Landed] = {}
    waiting = await landings.list_waiting(conn, click_ids, now)
    flagged = await bindings.list_flagged(conn, "link", {row["link_id"] for row in waiting})
    for row in waiting:
        landed = _landed(row, people, is_flagged=row["link_id"] in flagged)
        if row["visitor_id"] in locked and why_no_landing(landed.click, landed.page) is None:
            found.setdefault((row["click_id"], row["visitor_id"]), landed)
    return list(found.values())


def _landed(row: Record, people: Collection[UUID], *, is_flagged: bool) -> _Landed:
    is_live = row["disabled_at"] is None and row["contact_id"] in people
    to = Address(row["destination_type"], row["destination_value"]) if row["destination_type"] else None
    link = Link(
        row["link_id"],
        row["message_id"] or row["link_id"],
        row["contact_id"] if is_live else None,
        row["created_at"],
        to,
        is_flagged or row["suspect_at"] is not None,
    )
    page = Page(
        row["visitor_id"],
        row["is_returning"],
        "load",
        row["page_site"],
        row["received_at"],
        row["received_at"] - row["started_at"],
        () if row["is_key"] else (row["click_id"],),
        row["click_id"] if row["is_key"] else None,
    )
    return _Landed(Click(row["click_id"], row["click_at"], True, row["click_site"]), page, link, row)


async def _stitch(conn: Connection, landed: _Landed, tracking: Tracking, now: datetime) -> list[EventDraft]:
    """Decide on one landing, and write that; gives the events."""
    facts = await _read_facts(conn, landed, tracking, now)
    decision = stitch(facts)
    link, visitor = landed.link, landed.page.visitor_id
    rule = _RULES.get(decision.outcome, decision.outcome)
    entry = ledger.Entry("click", "click", rule, now, visitor_id=visitor, contact_id=link.contact_id)
    op_id = await ledger.record(conn, entry, decision.changes)
    await landings.add(conn, _landing(landed, decision, op_id))
    log.info("click.landed", link=public_id("lnk", link.id), outcome=decision.outcome, reason=decision.reason)
    return await _tell(conn, facts, decision, rule, now) if decision.outcome in _TOLD else []


async def _read_facts(conn: Connection, landed: _Landed, tracking: Tracking, now: datetime) -> ClickFacts:
    link, visitor = landed.link, landed.page.visitor_id
    if link.contact_id is None:
        return ClickFacts(landed.click, landed.page, link)
    browser = await visitors.list_browser(conn, [visitor])
    bound = (await bindings.list_bindings(conn, [visitor]))[visitor]
    chains = await profiles.read_survivors(conn, {link.contact_id, *(binding.contact_id for binding in bound)})
    parts = await profiles.list_parts(conn, survivor(link.contact_id, chains))
    refused = landed.row["click_opted_out"]
    return ClickFacts(
        landed.click,
        landed.page,
        link,
        browser=browser,
        claimant=await landings.find_claimant(conn, link.id),
        bindings=bound,
        kept_out=await landings.list_kept_out(conn, browser, parts),
        link_visitors=await landings.count_visitors(conn, link.id, browser),
        contact_visitors=await bindings.count_visitors(conn, parts, now - WEEK, browser),
        survivors=chains,
        may_bind=not refused and await may_track(conn, link.contact_id, tracking.consent),
    )


def _landing(landed: _Landed, decision: ClickDecision, op_id: UUID | None) -> Landing:
    row = landed.row
    return Landing(
        click_id=landed.click.id,
        visitor_id=landed.page.visitor_id,
        link_id=landed.link.id,
        message_id=row["message_id"],
        contact_id=None if decision.outcome in _UNTOLD_CONTACT else landed.link.contact_id,
        session=row["session"],
        click_at=landed.click.at,
        landed_at=landed.page.started_at,
        outcome=decision.outcome,
        reason=decision.reason,
        op_id=op_id,
    )


async def _tell(
    conn: Connection, facts: ClickFacts, decision: ClickDecision, rule: str, now: datetime
) -> list[EventDraft]:
    bind = next(change for change in decision.changes if isinstance(change, Bind))
    visitor = {"id": public_id("vis", bind.visitor_id), "trust": "click", "since": bind.start, "rule": rule}
    return await profile_drafts(
        conn,
        "visitor.identified",
        [bind.contact_id],
        now,
        contact=await person(conn, bind.contact_id),
        visitor=visitor,
        link={"id": public_id("lnk", facts.link.id)},
    )
