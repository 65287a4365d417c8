"""Verb: make tracked links for messages that the hub does not send, such as those of an email tool (rule F)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from hub.actions.consents import may_track
from hub.actions.track_links import links_off, mint, short_links
from hub.domain.addresses import Address
from hub.domain.ids import new_id, public_id
from hub.domain.link_targets import add_utm
from hub.domain.stitching import IDENTIFIES, REDIRECTS
from hub.domain.tracking import Tracking
from hub.store import contact_views, identity_locks
from hub.store.links import LinkDraft
from hub.store.pool import Connection


@dataclass(frozen=True, slots=True)
class LinkRequest:
    """A link as a service asks for it: `target` is one that `check_target` gave; `address` is whom it goes to."""

    target: str
    address: Address | None = None
    medium: str | None = None
    campaign: str | None = None
    utm: Mapping[str, str] = field(default_factory=dict)


async def make_links(
    conn: Connection, service_id: UUID, wanted: Sequence[LinkRequest], tracking: Tracking, now: datetime
) -> list[dict[str, Any]]:
    """Make these links; gives each with its short URL, which nobody can tell again.

    A link says who clicked it if its address is a contact's who may be tracked. One to an address that nobody owns, or
    to somebody who has not agreed, is made all the same and says nothing. Raises `Conflict` (`links_off`).
    """
    host = short_links(tracking)
    if host is None:
        raise links_off()
    recipients = await _find_recipients(conn, {one.address for one in wanted if one.address}, tracking)
    drafts = [_draft(service_id, one, recipients, now) for one in wanted]
    tokens = await mint(conn, drafts)
    return [_describe(draft, host.url(tokens[draft.id])) for draft in drafts]


async def _find_recipients(conn: Connection, addresses: set[Address], tracking: Tracking) -> dict[Address, UUID]:
    """Who owns these addresses and may be tracked. Nobody of them is merged or erased meanwhile."""
    owners = {address: await contact_views.find_owner(conn, address) for address in sorted(addresses, key=str)}
    there = await identity_locks.lock_contacts(conn, {owner for owner in owners.values() if owner})
    tracked = {owner for owner in there if await may_track(conn, owner, tracking.consent)}
    return {address: owner for address, owner in owners.items() if owner in tracked}


def _draft(service_id: UUID, one: LinkRequest, recipients: Mapping[Address, UUID], now: datetime) -> LinkDraft:
    contact_id = recipients.get(one.address) if one.address else None
    return LinkDraft(
        id=new_id(),
        target=add_utm(one.target, one.utm),
        created_at=now,
        service_id=service_id,
        medium=one.medium or ("email" if one.address and one.address.type == "email" else None),
        campaign=one.campaign,
        contact_id=contact_id,
        destination=one.address if contact_id else None,
    )


def _describe(link: LinkDraft, url: str) -> dict[str, Any]:
    is_personal = link.contact_id is not None
    return {
        "id": public_id("lnk", link.id),
        "url": url,
        "target": link.target,
        "personal": is_personal,
        "identifies_until": link.created_at + IDENTIFIES if is_personal else None,
        "redirects_until": link.created_at + REDIRECTS,
    }
