"""Reading: finding whatever somebody has in hand: an id of ours or of a provider's, a phone number, an email, a name.

A service finds what it may see, as everywhere (rules A4, C1); a message that it sees masked it does not find by what is
masked, its provider's id.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal
from uuid import UUID

from hub.actions.look import View, view_messages
from hub.domain.addresses import Address, is_user_id, variants
from hub.domain.declared import parse_email, parse_phone
from hub.domain.errors import NotFound
from hub.domain.ids import event_id, parse_id, public_id
from hub.store import event_lives, finding, lives, messages, subscriptions
from hub.store.pool import Connection, Record

MOST: Final = 20
"""Hits of each kind."""
LONGEST: Final = 200
_WORD: Final = re.compile(r"\w+")
_BLANK: Final = re.compile(r"\s+")
_UNSEEN: Final = re.compile("[\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")
"""Marks of direction and width that are copied along with a phone number from other programs."""
_JOINERS: Final = re.compile("[\u200c\u200d]")
"""Parts of words in some scripts."""
_EVENT: Final = re.compile(r"evt_[0-9a-f]{1,16}")

Kind = Literal["message", "conversation", "event", "contact", "service", "number"]


@dataclass(frozen=True, slots=True)
class Hit:
    """Something that was found: `id` as everywhere outside, `title` what it is called, `detail` what else helps."""

    kind: Kind
    id: str
    title: str
    detail: str


async def search(conn: Connection, view: View, text: str, region: str | None = None) -> list[Hit]:
    """Everything that fits, what is certain first. `region`: whose national numbers are understood, as `DE`."""
    text = _BLANK.sub(" ", _UNSEEN.sub("", text)).strip()
    if not text or len(text) > LONGEST or not _JOINERS.sub("", text).isprintable():
        return []
    if re.match(r"(msg|cnv|con|evt|svc)_[0-9a-f]", text):
        return await _by_id(conn, view, text)
    hits = await _by_provider_id(conn, view, text) if _may_be_provider_id(text) else []
    hits += await _by_address(conn, view, text, region)
    return hits or await _by_name(conn, view, text)


def _may_be_provider_id(text: str) -> bool:
    """Providers' ids are one long word; whoever was erased has none any more."""
    return " " not in text and any(map(str.isdigit, text)) and not text.startswith(("+", "erased:"))


# By id ----------------------------------------------------------------------------------------------------------------


async def _by_id(conn: Connection, view: View, text: str) -> list[Hit]:
    prefix = text[:3]
    if prefix == "evt":
        return await _event(conn, view, text)
    try:
        found = parse_id(prefix, text)
    except NotFound:
        return []
    if prefix == "msg":
        return await _messages(conn, view, [found])
    if prefix == "cnv":
        return [_talk(row) for row in await finding.find_talks(conn, [found], view.service_id, 1)]
    if prefix == "con":
        return await _contacts(conn, view, await finding.find_contact(conn, found, view.service_id))
    return await _services(conn, view, None, [found])


async def _event(conn: Connection, view: View, text: str) -> list[Hit]:
    if not _EVENT.fullmatch(text):
        return []
    found = await event_lives.find_event(conn, min(int(text[4:], 16), 2**63 - 1))
    if found is None:
        return []
    event, message_id = found
    if view.service_id is not None:
        reached = {row["channel_id"] for row in await subscriptions.list_viewers(conn, view.service_id, None)}
        is_for_them = event.audience is None or view.service_id in event.audience
        if event.channel_id not in reached or not is_for_them:
            return []
    hit = Hit("event", event_id(event.id), event.type, f"{event.at:%Y-%m-%d %H:%M:%S} UTC")
    return [hit, *(await _messages(conn, view, [message_id]) if message_id else [])]


async def _by_provider_id(conn: Connection, view: View, text: str) -> list[Hit]:
    rows = await lives.find_by_provider_id(conn, text, MOST)
    return await _messages(conn, view, [row["id"] for row in rows], is_full=view.service_id is not None)


async def _messages(conn: Connection, view: View, ids: Sequence[UUID], *, is_full: bool = False) -> list[Hit]:
    """Those within reach; `is_full`: and seen in full."""
    rows = [row for message_id in ids if (row := await messages.find_message(conn, message_id))]
    talks = {row["conversation_id"] for row in rows}
    reached = {row["id"]: row for row in await finding.find_talks(conn, talks, view.service_id, MOST)}
    rows = [row for row in rows if row["conversation_id"] in reached]
    seen = await view_messages(conn, view, rows) if rows else []
    return [
        _message(row, reached[row["conversation_id"]])
        for row, shown in zip(rows, seen, strict=True)
        if not (is_full and shown.get("masked"))
    ]


def _message(row: Record, talk: Record) -> Hit:
    state = f", {row['status']}" if row["status"] else ""
    title = f"{row['direction']} {row['type']}{state}"
    detail = f"{row['created_at']:%Y-%m-%d %H:%M:%S} UTC, {talk['name'] or 'no name'} on {talk['e164']}"
    return Hit("message", public_id("msg", row["id"]), title, detail)


# By address -----------------------------------------------------------------------------------------------------------


async def _by_address(conn: Connection, view: View, text: str, region: str | None) -> list[Hit]:
    addresses = _addresses(text, region)
    phones = list(dict.fromkeys(form for one in addresses if one.type == "phone" for form in variants(one.value)))
    numbers = await finding.find_numbers(conn, phones, view.service_id) if phones else []
    hits = [Hit("number", e164, e164, "a number of the business's") for e164 in numbers]
    found = await finding.find_by_address(conn, addresses, view.service_id, MOST)
    return hits + await _contacts(conn, view, found)


def _addresses(text: str, region: str | None) -> list[Address]:
    """What it may mean: an id is none else; digits alone may be a number of the region's or one without its plus."""
    if is_user_id(text):
        return [Address("user_id", text)]
    if "@" in text:
        email = parse_email(text)
        return [email] if email else []
    digits = re.sub(r"[\s().\-/]", "", text)
    spellings = [parse_phone(text, region)]
    if digits.startswith("00"):
        spellings.append(parse_phone(f"+{digits[2:]}", None))
    elif digits.isascii() and digits.isdigit():
        spellings.append(parse_phone(f"+{digits}", None))
    found = [one for one in spellings if one]
    return [*dict.fromkeys(found), Address("sender_id", text)]


async def _contacts(conn: Connection, view: View, rows: Sequence[Record]) -> list[Hit]:
    hits = [
        Hit("contact", public_id("con", row["id"]), row["name"] or "no name", f"since {row['created_at']:%Y-%m-%d}")
        for row in rows
    ]
    talks = await finding.find_talks(conn, [row["id"] for row in rows], view.service_id, MOST)
    return hits + [_talk(row) for row in talks]


def _talk(row: Record) -> Hit:
    channel = "" if row["kind"] == "shared" else f", standalone channel of {row['owner']}"
    title = f"{row['name'] or 'no name'} over {row['medium']}"
    return Hit("conversation", public_id("cnv", row["id"]), title, f"{row['e164']}{channel}")


# By name --------------------------------------------------------------------------------------------------------------


async def _by_name(conn: Connection, view: View, text: str) -> list[Hit]:
    words = _WORD.findall(text)
    if not words:
        return []
    query = " & ".join(f"'{word}':*" for word in words)
    hits = await _services(conn, view, query, [])
    return hits + await _contacts(conn, view, await finding.find_by_name(conn, query, view.service_id, MOST))


async def _services(conn: Connection, view: View, query: str | None, ids: Sequence[UUID]) -> list[Hit]:
    """Services are the operator's affair; each knows the others of its channels by their rosters."""
    if view.service_id is not None:
        return []
    rows = await finding.find_services(conn, query, ids, MOST)
    return [
        Hit("service", public_id("svc", row["id"]), row["name"], "removed" if row["removed_at"] else "a service")
        for row in rows
    ]
