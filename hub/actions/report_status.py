"""Verb: a provider, or our own sender, reports what became of outbound messages (rules E7, E8)."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import orjson

from hub.actions import describe
from hub.domain.events import EventDraft
from hub.domain.statuses import advance
from hub.store import messages, sent_forms
from hub.store.contacts import Contact
from hub.store.conversations import ConversationState
from hub.store.pool import Connection, Record

_TAKEN: Final = frozenset({"sent", "delivered", "read"})


@dataclass(frozen=True, slots=True)
class Report:
    """One step of a message: `status` is None where it is only recorded; `reported` is the reporter's own word."""

    status: str | None
    reported: str
    at: datetime
    provider_time: datetime | None = None
    error: dict[str, Any] | None = None
    details: dict[str, Any] = field(default_factory=dict)
    provider_id: str | None = None


def unparked(row: Record, now: datetime) -> Report:
    """A report that waited until its message was known (E7)."""
    kept = orjson.loads(row["details"] or "{}")
    errors = kept.get("errors") or [None]
    return Report(
        row["status"], row["reported"], now, row["provider_time"], error=errors[0], details=kept.get("details") or {}
    )


@dataclass(slots=True)
class _Entry:
    row: dict[str, Any]
    history: list[Mapping[str, Any]]
    was_open: bool
    is_touched: bool = False


class StatusBook:
    """Locked messages with their histories; takes reports one by one, writes all of them at once.

    The conversations of the messages must be locked first (lock order).
    """

    def __init__(self, entries: dict[UUID, _Entry]) -> None:
        self._entries = entries
        self._reports: list[tuple[UUID, str, str | None, datetime, datetime | None, str | None]] = []

    @classmethod
    async def open(cls, conn: Connection, ids: Collection[UUID]) -> "StatusBook":
        """Lock these messages and read what was reported of them so far."""
        rows = await messages.lock_messages(conn, ids)
        histories = await messages.list_statuses(conn, ids)
        return cls(
            {
                key: _Entry(dict(row), [dict(h) for h in histories.get(key, ())], _is_open(row))
                for key, row in rows.items()
            }
        )

    def row(self, message_id: UUID) -> Mapping[str, Any]:
        """A message as the reports so far have left it."""
        return self._entries[message_id].row

    def handed_over_at(self, message_id: UUID) -> datetime | None:
        """When a message of which nothing was known is taken for handed over, now that the provider turns out to have
        it: when it was last claimed. None where it is not known to have it, or was before.
        """
        entry = self._entries[message_id]
        if not entry.was_open or entry.row["status"] not in _TAKEN:
            return None
        return max((h["at"] for h in entry.history if h["status"] == "sending"), default=None)

    def take(
        self, message_id: UUID, report: Report, state: ConversationState, contact: Contact, *, is_told: bool = True
    ) -> EventDraft | None:
        """Take one report in; gives the event, where the message has moved and that is to be told."""
        entry = self._entries[message_id]
        self._record(entry, message_id, report)
        move = advance(
            entry.row["status"],
            report.status or "",
            is_conflict=entry.row["conflict"],
            is_known=bool(entry.row["provider_id"] or report.provider_id),
        )
        if report.provider_id and not entry.row["provider_id"]:
            entry.row["provider_id"] = report.provider_id
            entry.is_touched = True
        if report.error and report.status in {"failed", "cancelled"} and not entry.row["error"]:
            entry.row["error"] = orjson.dumps(report.error).decode()
            entry.is_touched = True
        if not move.is_change:
            return None
        entry.row |= {"status": move.status, "conflict": move.conflict}
        entry.is_touched = True
        return self._event(entry, report, state, contact) if is_told else None

    def _record(self, entry: _Entry, message_id: UUID, report: Report) -> None:
        details = {**report.details, **({"error": report.error} if report.error else {})}
        text = orjson.dumps(details).decode() if details else None
        self._reports.append((message_id, report.reported, report.status, report.at, report.provider_time, text))
        entry.history.append({"status": report.status, "at": report.at, "provider_time": report.provider_time})

    def _event(self, entry: _Entry, report: Report, state: ConversationState, contact: Contact) -> EventDraft:
        row = entry.row
        return describe.conversation_event(
            "message.status", state, contact, report.at, message_id=row["id"],
            author_service_id=row["author_service_id"], written_at=row["created_at"],
            message=describe.message(row, entry.history),
        )  # fmt: skip

    async def save(self, conn: Connection) -> None:
        """Write everything that changed."""
        await messages.add_statuses(conn, self._reports)
        touched = [e.row for e in self._entries.values() if e.is_touched]
        await messages.set_statuses(
            conn, [(r["id"], r["status"], r["conflict"], r["error"], r["provider_id"]) for r in touched]
        )
        closed = [key for key, e in self._entries.items() if e.was_open and not _is_open(e.row)]
        await sent_forms.forget(conn, closed)


def _is_open(row: Mapping[str, Any] | Record) -> bool:
    """Whether a message may still be handed to its provider, or its provider be asked about it."""
    return row["provider_id"] is None and row["status"] in {"queued", "sending", "unknown"}
