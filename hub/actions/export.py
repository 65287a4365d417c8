"""Verbs: hand out all that is known of a customer to the operator, or to a service what it brought itself (rule H5)."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from hub.actions.look import describe_messages
from hub.actions.show_files import show_files
from hub.actions.timeline import click_view
from hub.actions.view_contact import (
    Looker,
    external_view,
    find_person,
    own_addresses,
    trait_view,
    view_contact,
    visit_view,
)
from hub.actions.view_identity import operation_view
from hub.domain.ids import public_id
from hub.domain.media_links import MediaLinks
from hub.domain.profiles import address_key
from hub.domain.timeline import mark, unmark
from hub.store import audit, contact_views, identity_ops, messages, web_timeline
from hub.store.pool import Connection, Record

_PAGE: Final = 500
_ALL: Final = 2**62


async def export_contact(
    conn: Connection, looker: Looker, contact_id: UUID, actor: str, now: datetime, media_links: MediaLinks
) -> dict[str, Any]:
    """Everything: the profile, what was said of consent, messages in full with addresses of their files, visits,
    clicks, links, and the operations that made the profile what it is, without what these did to others. An audit row
    tells of it. Raises `NotFound`.
    """
    ids = (await find_person(conn, contact_id, None)).ids
    view = await view_contact(conn, looker, contact_id)
    await audit.add_audit(conn, actor, "contact.exported", subject=public_id("con", ids[0]))
    return {
        "exported_at": now,
        "contact": view,
        "consent_history": await _consents(conn, ids),
        "conversations": [
            await _talk(conn, row, media_links, now) for row in await contact_views.list_talks(conn, ids)
        ],
        "visits": [
            visit_view(row) | {"visitor_id": public_id("vis", row["visitor_id"])}
            for row in await _all(conn, ids, web_timeline.list_visits)
        ],
        "clicks": [click_view(row, is_target_shown=True) for row in await _all(conn, ids, web_timeline.list_clicks)],
        "links": [_link(row) for row in await contact_views.list_sent_links(conn, ids)],
        "operations": [
            operation_view(row, set(ids)) for row in await identity_ops.list_of_contacts(conn, ids, _ALL, _ALL)
        ],
    }


async def export_own(conn: Connection, contact_id: UUID, service_id: UUID) -> dict[str, Any]:
    """What a service calls a contact, and says of it. Raises `NotFound`."""
    ids = (await find_person(conn, contact_id, service_id)).ids
    return {
        "contact": {"id": public_id("con", ids[0])},
        "external_ids": [external_view(row) for row in await contact_views.list_external(conn, ids, service_id)],
        "traits": [trait_view(row) for row in await contact_views.list_traits(conn, ids, service_id)],
    }


async def _consents(conn: Connection, ids: Sequence[UUID]) -> list[dict[str, Any]]:
    own = await own_addresses(conn, ids)
    values = {address_key(address): address.value for address in reversed(own)}
    return [
        {
            "medium": row["medium"],
            "address": values[row["type"], row["match_key"]],
            "number": row["e164"],
            "kind": row["kind"],
            "source": row["source"],
            "service": public_id("svc", row["service_id"]) if row["service_id"] else None,
            "evidence": row["evidence"],
            "at": row["at"],
        }
        for row in await contact_views.list_consents(conn, list(values))
    ]


async def _talk(conn: Connection, talk: Record, links: MediaLinks, now: datetime) -> dict[str, Any]:
    said: list[dict[str, Any]] = []
    after = -_ALL  # what was said before the number was connected is numbered downwards from 0
    while rows := await messages.list_after(conn, talk["id"], after, _PAGE):
        said += await show_files(conn, links, None, await describe_messages(conn, rows), now.timestamp())
        after = rows[-1]["sequence"]
    return {
        "id": public_id("cnv", talk["id"]),
        "channel_id": public_id("chn", talk["channel_id"]),
        "number": talk["e164"],
        "medium": talk["medium"],
        "contact_id": public_id("con", talk["contact_id"]),
        "created_at": talk["created_at"],
        "messages": said,
    }


async def _all(conn: Connection, ids: Sequence[UUID], read: Callable[..., Awaitable[list[Record]]]) -> list[Record]:
    found: list[Record] = []
    place = 0
    while rows := await read(conn, ids, unmark(place), _PAGE, is_forward=True):
        found += rows
        place = mark(rows[-1]["at"], rows[-1]["id"])
    return found


def _link(row: Record) -> dict[str, Any]:
    return {
        "id": public_id("lnk", row["id"]),
        "target": row["target"],
        "service": public_id("svc", row["service_id"]) if row["service_id"] else None,
        "message_id": public_id("msg", row["message_id"]) if row["message_id"] else None,
        "campaign": row["campaign"],
        "created_at": row["created_at"],
    }
