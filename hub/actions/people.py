"""Reading: contacts, one by one and two by two, as people at the console look at them (rules C3, E5, H5, I)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from hub.actions import describe
from hub.actions.timeline import view_conversations
from hub.actions.view_contact import find_person, own_addresses
from hub.domain.ids import public_id
from hub.domain.likeness import Known
from hub.domain.profiles import address_key
from hub.store import contact_views, contacts, people, subscriptions, web_timeline
from hub.store.pool import Connection, Record

LANDINGS: Final = 50
_ALL: Final = UUID(int=2**128 - 1)


async def list_people(
    conn: Connection, service_id: UUID | None, before: UUID | None, limit: int
) -> tuple[list[dict[str, Any]], UUID | None]:
    """Contacts in reach, the newest first, and the place to go on from."""
    rows = await people.list_people(conn, service_id, before or _ALL, limit)
    known = await contacts.list_contacts(conn, {row["id"] for row in rows})
    items = [_item(row, known[row["id"]]) for row in rows if row["id"] in known]
    return items, rows[-1]["id"] if len(rows) == limit else None


def _item(row: Record, contact: contacts.Contact) -> dict[str, Any]:
    into = row["merged_into"]
    view = describe.contact(contact)
    return view | {"created_at": row["created_at"], "merged_into": public_id("con", into) if into else None}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is around a profile: its conversations in reach, everything that was said of consent, and the pages that
    followed clicks on links sent to it.
    """

    conversations: list[dict[str, Any]]
    consent_history: list[dict[str, Any]]
    landings: list[dict[str, Any]]


async def find_surroundings(conn: Connection, service_id: UUID | None, contact_id: UUID) -> Surroundings:
    """What is around a profile, as a service, or (None) the operator, may see it. Raises `NotFound`."""
    ids = (await find_person(conn, contact_id, service_id)).ids
    if service_id is None:
        talks = await people.list_talks(conn, ids)
    else:
        talks = await web_timeline.list_conversations(conn, service_id, ids)
    landings = await people.list_landings(conn, ids, LANDINGS, service_id)
    views = await view_conversations(conn, service_id, talks)
    return Surroundings(
        [view | {"kind": row["kind"]} for view, row in zip(views, talks, strict=True)],
        await _consents(conn, service_id, ids),
        [_landing(row) for row in landings],
    )


async def _consents(conn: Connection, service_id: UUID | None, ids: Sequence[UUID]) -> list[dict[str, Any]]:
    """The last first. Evidence goes to the operator and to who gave it; a service hears of its own numbers (E5)."""
    values = {address_key(address): address.value for address in reversed(await own_addresses(conn, ids))}
    rows = await contact_views.list_consents(conn, list(values))
    if service_id is not None:
        reached = {row["e164"] for row in await subscriptions.list_of_service(conn, service_id)}
        rows = [row for row in rows if row["e164"] is None or row["kind"] == "stop" or row["e164"] in reached]
    return [_said(row, values, service_id) for row in reversed(rows)]


def _said(row: Record, values: Mapping[tuple[str, str], str], service_id: UUID | None) -> dict[str, Any]:
    is_seen = service_id in {None, row["service_id"]}
    return {
        "medium": row["medium"],
        "address": values[row["type"], row["match_key"]],
        "number": None if row["kind"] == "stop" else row["e164"],
        "kind": row["kind"],
        "source": row["source"],
        "service": row["service_name"],
        "evidence": row["evidence"] if is_seen else None,
        "is_evidence_hidden": bool(row["evidence"]) and not is_seen,
        "is_over": row["is_over"],
        "at": row["at"],
    }


def _landing(row: Record) -> dict[str, Any]:
    message_id = row["message_id"]
    return {
        "visitor_id": public_id("vis", row["visitor_id"]),
        "link_id": public_id("lnk", row["link_id"]),
        "message_id": public_id("msg", message_id) if message_id else None,
        "click_at": row["click_at"],
        "landed_at": row["landed_at"],
        "outcome": row["outcome"],
        "reason": row["reason"],
    }


def known(view: Mapping[str, Any]) -> Known:
    """A profile as `view_contact` has it, to be weighed against another."""
    return Known(
        view["name"],
        {(a["type"], a["value"]): a["standing"] for a in view["addresses"]},
        frozenset(binding["visitor_id"] for binding in view["bindings"]),
        {(each["service"]["name"], each["external_id"]): each["verified"] for each in view["external_ids"]},
    )
