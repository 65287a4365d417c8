"""Telling of what declarations, merges and their undoing did to profiles, to those that may know of them (rule H5)."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from hub.actions import describe
from hub.actions.tell_profile import profile_drafts
from hub.domain.bindings import Bind, Raise
from hub.domain.events import EventDraft
from hub.domain.identity import Change, Confirm, Create, Fill, Remove
from hub.domain.ids import public_id
from hub.domain.merging import Merge
from hub.store import candidates, contacts, profiles
from hub.store.contacts import Contact
from hub.store.pool import Connection, Record


async def identified(
    conn: Connection, contact_id: UUID, rule: str, changes: Iterable[Change | Merge], now: datetime
) -> list[EventDraft]:
    """`visitor.identified` for each visitor that was bound to this profile, or is better known now."""
    known = []
    for change in changes:
        match change:
            case Bind():
                known.append((change.visitor_id, change.trust, change.start))
            case Raise():
                known.append((change.binding.visitor_id, change.trust, change.binding.start))
    who = await person(conn, contact_id) if known else {}
    drafts: list[EventDraft] = []
    for visitor_id, trust, since in known:
        said = {"id": public_id("vis", visitor_id), "trust": trust.name.lower(), "since": since, "rule": rule}
        drafts += await profile_drafts(conn, "visitor.identified", [contact_id], now, contact=who, visitor=said)
    return drafts


async def updated(
    conn: Connection, changed: dict[UUID, list[str]], rule: str, op_id: UUID | None, now: datetime
) -> list[EventDraft]:
    """`profile.updated` for each of these contacts' profiles, with what changed: addresses, name, traits."""
    roots = await profiles.read_roots(conn, changed)
    fields: dict[UUID, set[str]] = {}
    for contact_id, names in changed.items():
        fields.setdefault(roots[contact_id], set()).update(names)
    drafts = []
    for root, its in sorted(fields.items()):
        said = {"changed": sorted(its), "rule": rule, "operation_id": public_id("op", op_id) if op_id else None}
        drafts += await profile_drafts(
            conn, "profile.updated", [root], now, contact=await person(conn, root), profile=said
        )
    return drafts


def readdressed(changes: Iterable[Change | Merge]) -> dict[UUID, list[str]]:
    """What `updated` tells of changes: whose addresses."""
    found: dict[UUID, list[str]] = {}
    for change in changes:
        match change:
            case Fill() | Create():
                found[change.contact_id] = ["addresses"]
            case Confirm() | Remove():
                found[change.slot.contact_id] = ["addresses"]
    return found


async def suggested(conn: Connection, op_id: UUID, now: datetime) -> list[EventDraft]:
    """`profile.merge_suggested` for each candidate that an operation was the first to see, to those only that may know
    both.
    """
    drafts: list[EventDraft] = []
    for row in await candidates.list_new(conn, op_id):
        said = candidate_view(row)
        pair = row["contact_id"], row["other_contact_id"]
        first = await profile_drafts(conn, "profile.merge_suggested", pair[:1], now, candidate=said)
        second = await profile_drafts(conn, "profile.merge_suggested", pair[1:], now, candidate=said)
        drafts += _to_both(first, second)
    return drafts


def candidate_view(row: Record) -> dict[str, Any]:
    """A merge candidate as the API and events show it."""
    return {
        "id": public_id("mrg", row["id"]),
        "contact_ids": [public_id("con", row["contact_id"]), public_id("con", row["other_contact_id"])],
        "reason": row["reason"],
        "proper": row["is_proper"],
        "since": row["created_at"],
    }


def _to_both(first: Sequence[EventDraft], second: Sequence[EventDraft]) -> list[EventDraft]:
    knowing = {service for draft in second for service in draft.audience or ()}
    narrowed = [replace(d, audience=[s for s in d.audience or () if s in knowing]) for d in first]
    return [draft for draft in narrowed if draft.audience]


async def merged(
    conn: Connection, kind: str, merge: Merge, op_id: UUID, by: str, now: datetime
) -> list[EventDraft]:  # fmt: skip
    """`profile.merged`, or `profile.unmerged` without what a service that knows one of the two may not see any more."""
    said = {
        "contact_id": public_id("con", merge.kept_id),
        "merged_id": public_id("con", merge.absorbed_id),
        "operation_id": public_id("op", op_id),
        "by": by,
    }
    both = [merge.kept_id, merge.absorbed_id]
    shown = {"contact": await person(conn, merge.kept_id)} if kind == "profile.merged" else {}
    return await profile_drafts(conn, kind, both, now, **shown, merge=said)


async def person(conn: Connection, contact_id: UUID) -> dict[str, Any]:
    """A whole profile as events show a contact: the survivor with the addresses of all that were merged into it."""
    root = (await profiles.read_roots(conn, [contact_id]))[contact_id]
    parts = await profiles.list_parts(conn, root)
    return describe.contact(_whole(root, parts, await contacts.list_contacts(conn, parts)))


def _whole(root: UUID, parts: Collection[UUID], known: dict[UUID, Contact]) -> Contact:
    there = [known[part] for part in parts if part in known]
    addresses = dict.fromkeys(address for one in there for address in one.addresses)
    return Contact(root, next((one.name for one in there if one.name), None), tuple(addresses))
