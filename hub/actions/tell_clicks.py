"""Verb: tell services of clicks on tracked links, each click once (rules C1, H5, K2).

Whom a click is told of: where a link identifies, the event is one of the conversation it was sent in; where it does
not, or the browser or the contact has refused to be tracked, nothing in it names the recipient. Nor does it where who
made a link by itself may not know of the contact it was for: somebody else does, and so it is personal.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from hub.actions import describe
from hub.actions.announce import Place, channel_event
from hub.actions.consents import list_tracked
from hub.domain.events import Event, EventDraft
from hub.domain.ids import public_id
from hub.domain.stitching import link_life
from hub.domain.tracking import ConsentMode
from hub.store import contacts, conversations, event_log, identity_locks, untold
from hub.store.contacts import Contact
from hub.store.conversations import ConversationState
from hub.store.pool import Connection, Record


@dataclass(frozen=True, slots=True)
class Told:
    """So many clicks are settled; these events tell of them. None: another process does it."""

    clicks: int
    events: list[Event]


@dataclass(frozen=True, slots=True)
class _Hall:
    """Who is there to hear: contacts that are not erased, their conversations, channels and their services. `known`:
    the contacts that makers of links by themselves may know of, each with the service.
    """

    people: Mapping[UUID, Contact]
    tracked: frozenset[UUID]
    known: Collection[tuple[UUID, UUID]]
    states: Mapping[UUID, ConversationState]
    hearers: Mapping[UUID, Record]
    homes: Mapping[UUID, Record]


async def tell_clicks(conn: Connection, limit: int, mode: ConsentMode, now: datetime) -> Told | None:
    """Tell of the first clicks that are untold, at most so many, in their order. A click that nobody may hear of is
    settled without an event, and so is one on the link of somebody who was erased.
    """
    if not await untold.try_lock(conn):
        return None
    rows = await untold.take(conn, limit)
    links = [row for row in rows if row["link_id"] is not None]
    hall = await _assemble(conn, links, mode)
    drafts = [draft for row in links if (draft := _draft(row, hall, now))]
    return Told(len(rows), await event_log.append(conn, drafts))


async def _assemble(conn: Connection, rows: list[Record], mode: ConsentMode) -> _Hall:
    """Contacts and conversations are locked: what was told before, and an erasure, is seen."""
    hearers = await untold.list_hearers(conn, {row["channel_id"] for row in rows if row["channel_id"]})
    homes = await untold.list_homes(conn, {row["service_id"] for row in rows if _is_loose(row)})
    heard = [row for row in rows if row["channel_id"] in hearers or (_is_loose(row) and row["service_id"] in homes)]
    alive = await identity_locks.lock_contacts(conn, {row["contact_id"] for row in heard if row["contact_id"]})
    tracked = await list_tracked(conn, alive, mode)
    named = [row for row in heard if row["contact_id"] in tracked and _identifies(row)]
    states = await conversations.lock(conn, {row["conversation_id"] for row in named if row["conversation_id"]})
    shown = {state.contact_id for state in states.values()}
    people = await contacts.list_contacts(conn, alive | shown)
    known = await untold.list_knowing(conn, {(row["contact_id"], row["service_id"]) for row in named if _is_loose(row)})
    return _Hall(people, frozenset(tracked), known, states, hearers, homes)


def _is_loose(row: Record) -> bool:
    """Whether the link was made by itself, and not for a message of the hub's."""
    return row["channel_id"] is None and row["service_id"] is not None


def _identifies(row: Record) -> bool:
    """K2: not past 30 days; and not for a browser that sends Global Privacy Control."""
    return link_life(row["created_at"], row["at"]) == "identifies" and not row["opted_out"]


def _draft(row: Record, hall: _Hall, now: datetime) -> EventDraft | None:
    contact_id = row["contact_id"]
    if row["is_erased"] or (contact_id is not None and contact_id not in hall.people):
        return None  # erased
    if _is_loose(row):
        home = hall.homes.get(row["service_id"])
        audience = [row["service_id"]]
    else:
        home = hall.hearers.get(row["channel_id"])
        audience = home["services"] if home else []
    if home is None:
        return None
    is_named = _is_named(row, hall)
    state = hall.states.get(row["conversation_id"]) if is_named else None
    data = _data(row, is_named=is_named)
    if state is not None:
        return describe.conversation_event(
            "link.clicked", state, hall.people[state.contact_id], now, audience=audience, written_at=row["written_at"],
            message_id=row["message_id"], author_service_id=row["service_id"], **data,
        )  # fmt: skip
    if is_named:
        data["contact"] = describe.contact(hall.people[contact_id])
    place = Place(home["number_id"], home["e164"], home["channel_id"])
    draft = channel_event("link.clicked", place, now, audience=audience, **data)
    return replace(draft, author_service_id=row["service_id"], written_at=row["written_at"])


def _is_named(row: Record, hall: _Hall) -> bool:
    is_known = not _is_loose(row) or (row["contact_id"], row["service_id"]) in hall.known
    return row["contact_id"] in hall.tracked and is_known and _identifies(row)


def _data(row: Record, *, is_named: bool) -> dict[str, Any]:
    link: dict[str, Any] = {"id": public_id("lnk", row["link_id"])}
    if is_named and row["message_id"]:
        link["message_id"] = public_id("msg", row["message_id"])
    link |= {name: row[name] for name in ("target", "place", "campaign")}
    click = {"id": public_id("clk", row["click_id"]), "at": row["at"], "verdict": row["kind"] or "person"}
    return {"link": link, "click": click}
