"""What a batch's statuses are about, and what they change; those of unknown messages wait (rule E7)."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from hub.actions.batch import Batch, provider_time
from hub.actions.consent_book import Wish, wish_in
from hub.actions.control import taken_back
from hub.actions.hearing import Targets
from hub.actions.report_status import Report, StatusBook, unparked
from hub.domain.errors import NotFound
from hub.domain.ids import parse_id
from hub.store import contacts, inbound, messages
from hub.store.contacts import Contact
from hub.store.conversations import ConversationState
from hub.store.messages import MessageDraft
from hub.store.pool import Connection, Record
from providers.base import StatusReported


class Reports:
    """The statuses of one batch: `find` before conversations are locked, then `open`, `take` each, `save`."""

    def __init__(self, conn: Connection, reports: Sequence[tuple[StatusReported, str]]) -> None:
        self._conn = conn
        self._reports = reports
        self._naming: dict[tuple[str, str], str] = {}
        self._parked: dict[tuple[str, str], Sequence[Record]] = {}
        self._book = StatusBook({})
        self.contacts: dict[UUID, Contact] = {}
        self.found: Targets = {}

    async def find(self, sent: Iterable[str], now: datetime) -> list[tuple[str, Wish | None]]:
        """What each status is about. Where it is not known yet, or a status or `sent` tells of it just now, nobody else
        may learn of it, or park a status of it, before we are done. Gives what was parked of consent, by item.
        """
        told = set(sent)
        self.found = await self._match() if self._reports else {}
        unknown = {item.provider_id for item, _ in self._reports if item.provider_id and item.key not in self.found}
        unknown |= {provider_id for _, provider_id in self._naming}
        if unknown or told:
            await inbound.lock_provider_ids(self._conn, unknown | told)
        if not unknown:
            return []
        self.found = await self._match()
        return await self._take_parked(now)

    async def _take_parked(self, now: datetime) -> list[tuple[str, Wish | None]]:
        """What was parked of messages that this batch tells the provider's id of."""
        self._parked = dict(await inbound.take_orphans(self._conn, self._naming))
        wishes = []
        for name, rows in sorted(self._parked.items()):
            errors = [report.error for row in rows if (report := unparked(row, now)).error]
            wishes.append((self._naming[name], wish_in(name[0], errors)))
        return wishes

    async def _match(self) -> Targets:
        """The outbound messages, and their conversations, that each status is about: by the hub's id where the
        provider hands it back and it is not some other message's, else by the provider's id.
        """
        by_provider = await messages.find_sent_as(
            self._conn, {(provider, item.provider_id) for item, provider in self._reports if item.provider_id}
        )
        hub_ids = {item.key: hub_id for item, _ in self._reports if (hub_id := _hub_id(item))}
        by_hub = await messages.find_outbound(self._conn, set(hub_ids.values()))
        found: Targets = {}
        self._naming = {}
        for item, provider in self._reports:
            known = by_provider.get((provider, item.provider_id or ""))
            row = by_hub.get(hub_ids[item.key]) if item.key in hub_ids else None
            if known is None and row and row["provider"] == provider and row["provider_id"] in {None, item.provider_id}:
                known = [(row["id"], row["conversation_id"])]
                if item.provider_id:
                    self._naming.setdefault((provider, item.provider_id), item.key)
            if known:
                found[item.key] = known
        for item, provider in self._reports:  # one that names a message names it for its neighbours, too
            key = self._naming.get((provider, item.provider_id or ""))
            if key and item.key not in found:
                found[item.key] = found[key]
        return found

    async def open(self, batch: Batch) -> None:
        """Lock the messages and read what was reported of them; their conversations are locked."""
        if self.found:
            targets = [target for targets in self.found.values() for target in targets]
            self._book = await StatusBook.open(self._conn, {message_id for message_id, _ in targets})
            people = {batch.states[conversation_id].contact_id for _, conversation_id in targets}
            self.contacts = await contacts.list_contacts(self._conn, people)

    def take(self, item: StatusReported, provider: str, batch: Batch) -> UUID | None:
        """Move the messages; and by what was parked of one, where this is what names it. Gives the last one's id."""
        message_id = None
        for message_id, conversation_id in self.found.get(item.key, ()):
            state = batch.states[conversation_id]
            parked = self._parked.pop((provider, item.provider_id or ""), ())
            for report in (_report(item, batch.now), *(unparked(row, batch.now) for row in parked)):
                draft = self._book.take(message_id, report, state, self.contacts[state.contact_id])
                batch.drafts += [draft] if draft else []
            self._take_control(message_id, batch, state)
        return message_id

    def _take_control(self, message_id: UUID, batch: Batch, state: ConversationState) -> None:
        """A reply of which nothing was known until now makes its conversation ours, as one known at once does."""
        at = self._book.handed_over_at(message_id) if state.held_by else None
        done = at and taken_back(state, self.contacts[state.contact_id], self._book.row(message_id), at, batch.now)
        if done:
            batch.store(done.entry)
            batch.drafts.append(done.event)
            batch.given_back.add(state.id)

    async def save(self) -> None:
        """Write what changed, and park what is about no message we know."""
        orphans = [(item, provider) for item, provider in self._reports if item.key not in self.found]
        await inbound.add_orphans(self._conn, [_orphan(item, provider) for item, provider in orphans])
        await self._book.save(self._conn)


async def unpark(batch: Batch, sent: Sequence[MessageDraft]) -> None:
    """Apply the statuses that came before the news of what was sent past the hub; of history nobody is told."""
    parked = await inbound.take_orphans(batch.conn, {(d.provider, d.provider_id) for d in sent if d.provider_id})
    told = [draft for draft in sent if (draft.provider, draft.provider_id) in parked]
    if not told:
        return
    book = await StatusBook.open(batch.conn, {draft.id for draft in told})
    people = await contacts.list_contacts(batch.conn, {batch.states[d.conversation_id].contact_id for d in told})
    for draft in told:
        state = batch.states[draft.conversation_id]
        for row in parked[draft.provider, draft.provider_id or ""]:
            report, contact = unparked(row, batch.now), people[state.contact_id]
            event = book.take(draft.id, report, state, contact, is_told=not draft.history)
            batch.drafts += [event] if event else []
    await book.save(batch.conn)


def _hub_id(item: StatusReported) -> UUID | None:
    try:
        return parse_id("msg", item.hub_id) if item.hub_id else None
    except NotFound:
        return None


def _report(item: StatusReported, now: datetime) -> Report:
    return Report(
        status=item.status,
        reported=item.reported,
        at=now,
        provider_time=provider_time(item.at),
        error=item.errors[0] if item.errors else None,
        details=item.details,
        provider_id=item.provider_id,
    )


def _orphan(item: StatusReported, provider: str) -> tuple[Any, ...]:
    details: Mapping[str, Any] = {"errors": item.errors, "details": item.details}
    return (
        provider,
        item.provider_id,
        _hub_id(item),
        item.status,
        item.reported,
        provider_time(item.at),
        orjson.dumps(details).decode(),
    )
