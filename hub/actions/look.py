"""Reading: messages as one service, or the operator, may see them (rules C1, C2, C4)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import time
from typing import Any
from uuid import UUID

import orjson

from hub.actions import describe
from hub.actions.show_files import show_files
from hub.domain.errors import NotFound
from hub.domain.ids import public_id
from hub.domain.masking import PolicyBook, may_see_content, project_message
from hub.domain.media_links import MediaLinks
from hub.domain.time_places import TimePlace, encode
from hub.store import conversations, messages, visibility
from hub.store.pool import Connection, Record


@dataclass(frozen=True, slots=True)
class View:
    """Who looks; None is the operator, a stranger to every author. `links` makes addresses of files for them."""

    service_id: UUID | None
    links: MediaLinks


@dataclass(frozen=True, slots=True)
class Span:
    """Which part of a timeline: above a sequence number, oldest first, or below one, newest first."""

    after: int | None
    before: int
    limit: int


@dataclass(frozen=True, slots=True)
class TimeSpan:
    """The same of a timeline by the providers' times: behind a place, oldest first, or before it, newest first."""

    place: TimePlace
    limit: int
    is_forward: bool


def out_of_reach() -> NotFound:
    """What a service may not see is not there for it (A4)."""
    return NotFound(
        "There is no such conversation on a channel this service is connected to (rule A4): take an id of"
        " GET /v1/conversations, or connect to its number."
    )


async def read_messages(
    conn: Connection, view: View, conversation_id: UUID, span: Span | TimeSpan
) -> tuple[list[dict[str, Any]], int | str | None]:
    """Part of a conversation's timeline as the viewer sees it, and where to go on from (C3): a sequence number, or a
    word where it is sorted by time.
    """
    if isinstance(span, TimeSpan):
        is_forward = span.is_forward
        rows = await conversations.list_by_time(conn, conversation_id, span.place, span.limit, is_forward=is_forward)
        last = TimePlace(rows[-1]["place_at"], rows[-1]["sequence"]) if len(rows) == span.limit else None
        return await view_messages(conn, view, rows), encode(last) if last else None
    if span.after is not None:
        rows = await messages.list_after(conn, conversation_id, span.after, span.limit)
    else:
        rows = await messages.list_before(conn, conversation_id, span.before, span.limit)
    items = await view_messages(conn, view, rows)
    return items, rows[-1]["sequence"] if len(rows) == span.limit else None


async def view_messages(conn: Connection, view: View, rows: Sequence[Record]) -> list[dict[str, Any]]:
    """These messages as the viewer sees them; the caller has seen to it that they are within its reach."""
    policies = await _read_policies(conn, view.service_id, rows)
    askers = await _find_askers(conn, rows)
    wholes = await describe_messages(conn, rows)
    shown = [
        show_message(dict(row), whole, view.service_id, policies, asked_by=askers.get(row["id"]))
        for row, whole in zip(rows, wholes, strict=True)
    ]
    return await show_files(conn, view.links, view.service_id, shown, time())


def show_message(
    row: Mapping[str, Any], whole: Mapping[str, Any], viewer: UUID | None, policies: PolicyBook,
    *, asked_by: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """One stored message, described as a whole, as the viewer sees it."""
    is_full = may_see_content(policies, row["channel_id"], viewer, row["author_service_id"], row["created_at"])
    return project_message(whole, viewer=viewer, is_full=is_full, asked_by=asked_by)


async def describe_messages(conn: Connection, rows: Sequence[Record]) -> list[dict[str, Any]]:
    """These messages, unmasked."""
    histories = await messages.list_statuses(conn, [row["id"] for row in rows if row["status"]])
    return [describe.message(dict(row), [dict(entry) for entry in histories.get(row["id"], ())]) for row in rows]


async def _read_policies(conn: Connection, viewer: UUID | None, rows: Sequence[Record]) -> PolicyBook:
    channels = {row["channel_id"] for row in rows if row["author_service_id"] not in {None, viewer}}
    return await visibility.read_policies(conn, channels) if channels and viewer else {}


async def _find_askers(conn: Connection, rows: Sequence[Record]) -> dict[UUID, str]:
    """For each message that taps a button, the service whose button it is, where that is known (C1)."""
    asked = {row["id"]: key for row in rows if (key := _answered(row))}
    authors = await messages.find_authors(conn, set(asked.values()))
    nameless = {row["conversation_id"] for row in rows if row["id"] in asked and asked[row["id"]][1] not in authors}
    unnamed = await messages.find_unnamed_authors(conn, nameless)
    found = {
        row["id"]: authors.get(asked[row["id"]][1]) or unnamed.get(row["conversation_id"])
        for row in rows
        if row["id"] in asked
    }
    return {message_id: public_id("svc", author) for message_id, author in found.items() if author}


def _answered(row: Record) -> tuple[str, str] | None:
    """Which of our messages a tapped button belongs to: provider and provider id."""
    if row["direction"] != "inbound" or row["type"] not in {"button", "interactive"}:
        return None
    reply_to = orjson.loads(row["content"]).get("reply_to") or {}
    target = reply_to.get("provider_id")
    return (row["provider"], target) if target else None
