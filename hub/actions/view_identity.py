"""Reading: merge candidates, and the ledger of what was done to a contact (rules I, H5)."""

from collections.abc import Collection, Sequence
from typing import Any, Final
from uuid import UUID

from hub.actions import describe
from hub.actions.identity_events import candidate_view
from hub.actions.ledger import AnyChange
from hub.actions.view_contact import find_person
from hub.domain.addresses import Address
from hub.domain.bindings import Bind, Claim, End, Flag, Raise, Retract
from hub.domain.change_codec import decode
from hub.domain.identity import Confirm, Consent, Create, Fill, Remove, Suggest
from hub.domain.ids import public_id
from hub.domain.merging import Merge
from hub.domain.profiles import Slot, Standing
from hub.store import candidates, contacts, identity_ops, profiles
from hub.store.pool import Connection, Record


async def list_candidates(
    conn: Connection, service_id: UUID | None, after: UUID, limit: int
) -> tuple[list[dict[str, Any]], UUID | None]:
    """Open candidates, with the two as the profiles they are by now: those of which a service may know both, or (None)
    all. Gives the place to go on from, too.
    """
    rows = await candidates.list_open(conn, service_id, after, limit)
    named = {row[name] for row in rows for name in ("contact_id", "other_contact_id")}
    roots = await profiles.read_roots(conn, named)
    people = await contacts.list_contacts(conn, set(roots.values()))
    items = [_candidate(row, [people[roots[row[n]]] for n in ("contact_id", "other_contact_id")]) for row in rows]
    return items, rows[-1]["id"] if len(rows) == limit else None


def _candidate(row: Record, pair: Sequence[contacts.Contact]) -> dict[str, Any]:
    view = candidate_view(row)
    del view["contact_ids"]
    return view | {"contacts": [describe.contact(contact) for contact in pair]}


async def list_operations(
    conn: Connection, service_id: UUID | None, contact_id: UUID, before: int, limit: int
) -> tuple[list[dict[str, Any]], int | None]:
    """What was done to a profile, the last first; a service sees of each what concerns this profile. Raises
    `NotFound`.
    """
    person = await find_person(conn, contact_id, service_id)
    rows = await identity_ops.list_of_contacts(conn, person.ids, before, limit)
    seen = None if service_id is None else set(person.ids)
    return [operation_view(row, seen) for row in rows], rows[-1]["position"] if len(rows) == limit else None


def operation_view(row: Record, seen: Collection[UUID] | None) -> dict[str, Any]:
    """An operation of the ledger; of what it did, what concerns these contacts, or (None) all."""
    service_id, is_theirs = row["service_id"], seen is None or row["contact_id"] in seen
    changes = [
        view
        for one in decode(row["changes"])
        if (is_theirs or not isinstance(one.change, _OF_NO_CONTACT)) and (view := _change(one.change, seen))
    ]
    is_visitor_shown = row["visitor_id"] and (is_theirs or any("visitor_id" in view for view in changes))
    return {
        "id": public_id("op", row["id"]),
        "kind": row["kind"],
        "source": row["source"],
        "rule": row["rule"],
        "service": {"id": public_id("svc", service_id), "name": row["service_name"]} if service_id else None,
        "visitor_id": public_id("vis", row["visitor_id"]) if is_visitor_shown else None,
        "at": row["at"],
        "undone_at": row["undone_at"],
        "undone_by": row["undone_by"],
        "changes": changes,
    }


_OF_NO_CONTACT: Final = (Claim, Consent, Flag)
"""Changes that name no contact: they are the affair of whom the operation is about first."""


def _change(change: AnyChange, seen: Collection[UUID] | None) -> dict[str, Any] | None:
    """One change; None where it concerns contacts that the viewer may not know."""
    contacts_of, view = _shown(change)
    if seen is not None and any(contact not in seen for contact in contacts_of):
        return None
    ids = [public_id("con", contact) for contact in contacts_of]
    return {"type": _TYPES[type(change)], "reason": change.reason, "contact_ids": ids, **view}


_TYPES = {
    Claim: "link_claimed", Bind: "visitor_bound", End: "binding_ended", Retract: "binding_retracted",
    Raise: "binding_raised", Flag: "flagged", Create: "contact_created", Fill: "address_added",
    Confirm: "address_confirmed", Remove: "address_removed", Suggest: "merge_suggested", Consent: "consent_changed",
    Merge: "contacts_merged",
}  # fmt: skip


def _shown(change: AnyChange) -> tuple[list[UUID], dict[str, Any]]:
    """The contacts that a change is about, and what else is shown of it."""
    match change:
        case Claim():
            return [], {"link_id": public_id("lnk", change.link_id)}
        case Bind():
            visitor = public_id("vis", change.visitor_id)
            return [change.contact_id], {
                "visitor_id": visitor, "since": change.start, "until": change.until, "trust": change.trust.name.lower(),
            }  # fmt: skip
        case End() | Retract() | Raise():
            return [change.binding.contact_id], {"visitor_id": public_id("vis", change.binding.visitor_id)}
        case Flag():
            prefix = {"contact": "con", "link": "lnk", "visitor": "vis"}[change.subject]
            return [], {"subject": {"type": change.subject, "id": public_id(prefix, change.id)}}
        case Create():
            return [change.contact_id], {}
        case Fill():
            return [change.contact_id], _address(change.address, change.standing)
        case Confirm():
            return [change.slot.contact_id], _address(change.slot.address, change.standing)
        case Remove():
            return [change.slot.contact_id], _slot(change.slot)
        case Suggest():
            return [change.contact_id, change.other_contact_id], {"proper": change.is_proper}
        case Consent():
            return [], {"status": change.kind, "medium": change.medium, **_address(change.address)}
        case Merge():
            return [change.kept_id, change.absorbed_id], {}


def _slot(slot: Slot) -> dict[str, Any]:
    return _address(slot.address, slot.standing)


def _address(address: Address, standing: Standing | None = None) -> dict[str, Any]:
    view: dict[str, Any] = {"address": {"type": address.type, "value": address.value}}
    return view if standing is None else view | {"standing": standing.name.lower()}
