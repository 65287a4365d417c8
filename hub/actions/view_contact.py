"""Reading: contacts as whole profiles, and visitors, for those who may know of them (rule H5)."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import orjson

from hub.actions.consents import may_track
from hub.domain.addresses import Address, is_user_id
from hub.domain.bindings import Trust
from hub.domain.consent import ConsentEvent, fold
from hub.domain.declared import parse_email, parse_phone
from hub.domain.errors import Invalid, NotFound
from hub.domain.ids import public_id
from hub.domain.profiles import address_key
from hub.domain.tracking import ConsentMode
from hub.store import contact_views, erasing
from hub.store.pool import Connection, Record

MOST_FOUND: Final = 20
"""Contacts that one address leads to at most."""


@dataclass(frozen=True, slots=True)
class Looker:
    """Who looks at profiles: a service, or (None) the operator, who sees everything. `mode`: who is tracked here."""

    service_id: UUID | None
    mode: ConsentMode


@dataclass(frozen=True, slots=True)
class Person:
    """A profile: the contact it goes on as, and everything that was merged into that, by age."""

    rows: Sequence[Record]

    @property
    def id(self) -> UUID:
        """The survivor's."""
        found: UUID = self.rows[0]["id"]
        return found

    @property
    def ids(self) -> list[UUID]:
        """The survivor's first."""
        return [row["id"] for row in self.rows]


def read_address(text: str, region: str | None) -> Address:
    """An address as somebody looks for it: an email, a business-scoped id, or a phone number in any usual spelling. A
    plus that was not written as %2B arrives as a space. Raises `Invalid` (`invalid_address`).
    """
    if is_user_id(text):
        return Address("user_id", text)
    phone = "+" + text[1:] if text.startswith(" ") else text
    found = parse_email(text) if "@" in text else parse_phone(phone, region)
    if found is None:
        raise Invalid(
            "An address is an email, a phone number with its country code such as +4915112345678, or a business-scoped"
            " user id such as US.13491208655302741918 (rule B8).",
            code="invalid_address",
        )
    return found


async def find_person(conn: Connection, contact_id: UUID, service_id: UUID | None) -> Person:
    """The profile that a contact is, or is part of. Raises `NotFound` where a service has none such in its reach."""
    rows = await contact_views.list_person(conn, contact_id)
    person = Person(rows)
    if not rows or (service_id is not None and not await contact_views.may_see(conn, service_id, person.ids)):
        raise NotFound(
            "There is no such contact that this service has a conversation with on a channel it is connected to, or"
            " has identified (rule H5): take the contact's id of a conversation, or of your own identify call."
        )
    return person


async def own_addresses(conn: Connection, contact_ids: Collection[UUID]) -> list[Address]:
    """Every address that these contacts have or had, but for those that are somebody else's: what was said of such a
    one is the other's affair, whoever had it before or typed it into a browser.
    """
    own = []
    for address in await erasing.list_addresses(conn, contact_ids):
        owner = await contact_views.find_owner(conn, address)
        if owner is None or owner in contact_ids:
            own.append(address)
    return own


async def find_contacts(conn: Connection, looker: Looker, address: Address) -> list[dict[str, Any]]:
    """Every profile in reach that has this address, its owner first."""
    owner = await contact_views.find_owner(conn, address)
    having = await contact_views.list_having(conn, address, MOST_FOUND)
    return await _view_all(conn, looker, [*dict.fromkeys([*([owner] if owner else []), *having])])


async def find_by_external(
    conn: Connection, looker: Looker, service_id: UUID, external_id: str
) -> list[dict[str, Any]]:
    """The profile that a service calls so; none or one."""
    found = await contact_views.find_by_external(conn, service_id, external_id)
    return await _view_all(conn, looker, [found] if found else [])


async def _view_all(conn: Connection, looker: Looker, ids: Sequence[UUID]) -> list[dict[str, Any]]:
    views: dict[str, dict[str, Any]] = {}
    for contact_id in ids:
        try:
            view = await view_contact(conn, looker, contact_id)
        except NotFound:
            continue
        views.setdefault(view["id"], view)
    return list(views.values())


async def view_contact(conn: Connection, looker: Looker, contact_id: UUID) -> dict[str, Any]:
    """A whole profile; asked for by a contact that was merged into another, the other's. Raises `NotFound`."""
    person = await find_person(conn, contact_id, looker.service_id)
    root, ids = person.rows[0], person.ids
    addresses = await contact_views.list_addresses(conn, ids)
    bindings = await contact_views.list_bindings(conn, ids)
    visitors = {row["visitor_id"] for row in bindings}
    return {
        "id": public_id("con", person.id),
        "requested_id": public_id("con", contact_id),
        "name": next((row["name"] for row in person.rows if row["name"]), None),
        "created_at": min(row["created_at"] for row in person.rows),
        "erased": root["erased_at"] is not None,
        "erased_at": root["erased_at"],
        "merged": [_merged_view(row) for row in person.rows[1:]],
        "addresses": [_address_view(row) for row in addresses],
        "former_addresses": [_former_view(row) for row in await contact_views.list_former(conn, ids)],
        "consents": await _view_consents(conn, addresses, await own_addresses(conn, ids)),
        "tracked": await may_track(conn, contact_id, looker.mode),
        "traits": [trait_view(row) for row in await contact_views.list_traits(conn, ids, looker.service_id)],
        "external_ids": [external_view(row) for row in await contact_views.list_external(conn, ids, looker.service_id)],
        "bindings": [binding_view(row) for row in bindings],
        "flags": [_flag_view(row) for row in await contact_views.list_flags(conn, ids, visitors)],
        "candidates": await _view_candidates(conn, looker.service_id, ids),
    }


def _merged_view(row: Record) -> dict[str, Any]:
    into = public_id("con", row["merged_into"])
    return {
        "id": public_id("con", row["id"]),
        "merged_into": into,
        "name": row["name"],
        "created_at": row["created_at"],
    }


def _address_view(row: Record) -> dict[str, Any]:
    return {
        "type": row["type"],
        "value": row["value"],
        "standing": row["standing"],
        "contact_id": public_id("con", row["contact_id"]),
        "since": row["created_at"],
    }


def _former_view(row: Record) -> dict[str, Any]:
    return {
        "type": row["type"],
        "value": row["value"],
        "contact_id": public_id("con", row["contact_id"]),
        "since": min(row["created_at"], row["removed_at"]),
        "until": row["removed_at"],
    }


def trait_view(row: Record) -> dict[str, Any]:
    """What a service says of a contact."""
    return {
        "name": row["name"],
        "value": orjson.Fragment(row["value"]),
        "service": _service(row),
        "updated_at": row["updated_at"],
    }


def external_view(row: Record) -> dict[str, Any]:
    """What a service calls a contact."""
    return {
        "external_id": row["external_id"],
        "service": _service(row),
        "verified": row["is_verified"],
        "since": row["created_at"],
    }


def _service(row: Record) -> dict[str, Any]:
    return {"id": public_id("svc", row["service_id"]), "name": row["service_name"]}


def binding_view(row: Record) -> dict[str, Any]:
    """When a visitor was which contact, and how that is known: by the click on a link, or by a declaration."""
    link = row["link_id"]
    return {
        "visitor_id": public_id("vis", row["visitor_id"]),
        "contact_id": public_id("con", row["contact_id"]),
        "since": row["since"],
        "until": row["until"],
        "trust": Trust(row["trust"]).name.lower(),
        "by": {"type": "click", "link_id": public_id("lnk", link)} if link else {"type": "declaration"},
        "bound_at": row["bound_at"],
    }


def _flag_view(row: Record) -> dict[str, Any]:
    prefix = "con" if row["subject"] == "contact" else "vis"
    subject = {"type": row["subject"], "id": public_id(prefix, row["subject_id"])}
    return {"subject": subject, "reason": row["reason"], "since": row["since"]}


async def _view_candidates(conn: Connection, service_id: UUID | None, ids: Collection[UUID]) -> list[dict[str, Any]]:
    """Who may be the same person: of those that the viewer may know, too."""
    rows = await contact_views.list_candidates(conn, ids)
    others = [row["other_contact_id"] if row["contact_id"] in ids else row["contact_id"] for row in rows]
    seen = set(others) if service_id is None else await _reached(conn, service_id, others)
    return [_candidate_view(row, other) for row, other in zip(rows, others, strict=True) if other in seen]


def _candidate_view(row: Record, other: UUID) -> dict[str, Any]:
    return {
        "id": public_id("mrg", row["id"]),
        "contact_id": public_id("con", other),
        "reason": row["reason"],
        "since": row["created_at"],
    }


async def _view_consents(
    conn: Connection, addresses: Sequence[Record], own: Collection[Address]
) -> list[dict[str, Any]]:
    """What holds for each address by itself: in general, and on numbers of which something else was said."""
    keys = set(map(address_key, own))
    values = {(row["type"], row["match_key"]): row["value"] for row in reversed(addresses)}
    values = {key: value for key, value in values.items() if key in keys}
    ledgers: dict[tuple[str, str, str], list[Record]] = {}
    for row in await contact_views.list_consents(conn, list(values)):
        ledgers.setdefault((row["medium"], row["type"], row["match_key"]), []).append(row)
    return [
        {"medium": medium, "address": values[kind, key], **view}
        for (medium, kind, key), rows in ledgers.items()
        for view in _standings(rows)
    ]


def _standings(rows: Sequence[Record]) -> list[dict[str, Any]]:
    events = [
        ConsentEvent(r["kind"], r["number_id"], r["source"], r["at"], r["has_evidence"], r["is_over"]) for r in rows
    ]
    numbers: dict[int | None, str | None] = {None: None} | {r["number_id"]: r["e164"] for r in rows}
    views = []
    for number_id, e164 in numbers.items():
        holds = fold(events, number_id)
        stops = holds.is_marketing_stopped
        views.append({"number": e164, "status": holds.status, "marketing_stopped": stops, "since": holds.since})
    general = {name: views[0][name] for name in ("status", "marketing_stopped")}
    return [view for view in views if view["number"] is None or any(view[name] != general[name] for name in general)]


# Visitors -----------------------------------------------------------------------------------------------------------


async def view_visitor(
    conn: Connection, looker: Looker, visitor_id: UUID, before: tuple[datetime, UUID], limit: int
) -> dict[str, Any]:
    """A visitor: who it was and when, and its visits, newest first. A service is shown what concerns contacts it may
    know of, and nothing of others on the same browser. Raises `NotFound`.
    """
    found = await contact_views.find_visitor(conn, visitor_id)
    bindings = await contact_views.list_of_visitor(conn, visitor_id)
    people = {row["contact_id"] for row in bindings}
    seen = None if looker.service_id is None else await _reached(conn, looker.service_id, people)
    if found is None or (seen is not None and not seen):
        raise NotFound(
            "There is no such visitor that was bound to a contact this service may know of (rule H5): take a visitor's"
            " id of a contact's bindings."
        )
    visits = await contact_views.list_visits(conn, visitor_id, seen, before, limit)
    return {
        "id": public_id("vis", visitor_id),
        "created_at": found["created_at"],
        "seen_at": found["seen_at"],
        "bindings": [binding_view(row) for row in bindings if seen is None or row["contact_id"] in seen],
        "flags": [_flag_view(row) for row in await contact_views.list_flags(conn, (), [visitor_id])],
        "visits": [_visit_view(row) for row in visits],
        "next": (visits[-1]["at"], visits[-1]["id"]) if len(visits) == limit else None,
    }


async def _reached(conn: Connection, service_id: UUID, contact_ids: Collection[UUID]) -> set[UUID]:
    """Those of these contacts that a service may know of."""
    seen = set()
    for contact_id in set(contact_ids):
        rows = await contact_views.list_person(conn, contact_id)
        if await contact_views.may_see(conn, service_id, [row["id"] for row in rows]):
            seen.add(contact_id)
    return seen


def _visit_view(row: Record) -> dict[str, Any]:
    contact_id = row["contact_id"]
    return {
        **visit_view(row),
        "contact_id": public_id("con", contact_id) if contact_id else None,
    }


def visit_view(row: Record) -> dict[str, Any]:
    """What a browser reported of a visit."""
    names = ("at", "url", "title", "referrer", "session")
    return {"type": f"web.{row['type']}", **{name: row[name] for name in names}}
