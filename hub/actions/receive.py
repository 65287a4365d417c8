"""Verb: take a batch of providers' items in, in one transaction (rules B2 to B8).

Order of work: find the numbers, drop what was seen before, find or make contacts and conversations, lock the
conversations, number and store everything in the order it came, append the events. What cannot be taken in is
quarantined and harms nobody else.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import orjson

from hub.actions import describe
from hub.actions.arrivals import Accepted, Arrival, Talk, sort_out
from hub.actions.consent_book import wish_in
from hub.actions.hearing import Hearing, Targets
from hub.actions.report_status import Report, StatusBook, unparked
from hub.actions.resolve import Directory, Thread, ThreadKey, identity, reply_address, resolve
from hub.domain.errors import NotFound
from hub.domain.events import Event, EventDraft
from hub.domain.ids import new_id, parse_id, public_id
from hub.store import contacts, conversations, event_log, inbound, messages
from hub.store.contacts import Contact
from hub.store.conversations import ConversationState
from hub.store.inbound import Quarantined, key_digest
from hub.store.messages import MessageDraft
from hub.store.pool import Connection, Record, TryAgain
from hub.store.routes import ChannelRoute, Roster, Route, find_routes, find_version
from providers.base import (
    Customer,
    MessageDeleted,
    MessageEdited,
    MessageReceived,
    PreferenceChanged,
    ReactionChanged,
    StatusReported,
    Unparsed,
)

_CHANGE_EVENTS: Final[dict[type, str]] = {
    MessageEdited: "message.edited",
    MessageDeleted: "message.deleted",
    ReactionChanged: "reaction.changed",
}


@dataclass(slots=True)
class Received:
    """What became of a batch. `learned` is for the directory, once the transaction is committed."""

    events: list[Event] = field(default_factory=list)
    learned: dict[ThreadKey, Thread] = field(default_factory=dict)
    roster: Roster = field(default_factory=Roster)
    fresh: int = 0
    duplicates: int = 0
    quarantined: list[Quarantined] = field(default_factory=list)


async def receive(conn: Connection, directory: Directory, arrivals: Sequence[Arrival], now: datetime) -> Received:
    """Take the batch in. Raises `TryAgain` when it lost against another process: nothing is stored then."""
    result = Received()
    result.roster.version = await find_version(conn)
    result.roster.routes = routes = await find_routes(
        conn, {a.item.sender for a in arrivals if not isinstance(a.item, Unparsed)}
    )
    accepted, result.quarantined = sort_out(arrivals, routes)
    await inbound.add_quarantined(conn, result.quarantined)
    fresh = await _drop_known(conn, accepted, result)
    if fresh:
        batch = _Batch(conn, directory, now, result)
        await batch.take(fresh)
    return result


async def _drop_known(conn: Connection, accepted: Sequence[Accepted], result: Received) -> list[Accepted]:
    """What was never taken in before, once each, in order (B4)."""
    first: dict[bytes, Accepted] = {}
    for entry in accepted:
        first.setdefault(key_digest(entry[0].key), entry)
    new = await inbound.add_keys(conn, list(first))
    result.fresh = len(new)
    result.duplicates = len(accepted) - len(new)
    return [entry for key, entry in first.items() if key in new]


def _time(at: float | None) -> datetime | None:
    return None if at is None else datetime.fromtimestamp(at, UTC)


class _Batch:
    """The working state of one transaction over fresh items."""

    def __init__(self, conn: Connection, directory: Directory, now: datetime, result: Received) -> None:
        self.conn = conn
        self.directory = directory
        self.now = now
        self.result = result
        self.threads: dict[ThreadKey, Thread] = {}
        self.states: dict[UUID, ConversationState] = {}
        self.contacts: dict[UUID, Contact] = {}
        self.drafts: list[EventDraft] = []
        self.stored: list[MessageDraft] = []
        self.authors: dict[str, UUID] = {}
        self.unnamed: dict[UUID, UUID] = {}
        self.targets: dict[tuple[UUID, str], Any] = {}
        self.edits: list[tuple[UUID, MessageEdited | MessageDeleted]] = []
        self.book = StatusBook({})
        self.hearing = Hearing(conn, ())
        self.naming: dict[tuple[str, str], str] = {}
        self.parked: dict[tuple[str, str], Sequence[Record]] = {}
        self.numbered: dict[UUID, int] = {}
        self.moved: set[UUID] = set()

    async def take(self, fresh: Sequence[Accepted]) -> None:
        """Do all of it, and write it."""
        talk = [(item, route) for item, route, _ in fresh if not isinstance(item, StatusReported | PreferenceChanged)]
        reports = [(item, provider) for item, _, provider in fresh if isinstance(item, StatusReported)]
        sent = {item.provider_id for item, _ in talk if isinstance(item, MessageReceived) and _is_ours(item)}
        self.hearing = Hearing(self.conn, fresh)
        found = await self._find_messages(reports, {provider_id for provider_id in sent if provider_id})
        await self.hearing.lock(found)
        await self._find_threads(talk)
        spoken = {conversation_id for targets in found.values() for _, conversation_id in targets}
        await self._lock(talk, spoken | await self.hearing.find_conversations(self.threads, found))
        await self._look_up(talk, found)
        for item, route, provider in fresh:
            message_id = None
            if isinstance(item, StatusReported):
                for target in found.get(item.key, ()):
                    self._report(item, provider, *target)
                    message_id = target[0]
            elif not isinstance(item, PreferenceChanged):
                message_id = self._talk(item, route, provider)
            self.drafts += self.hearing.take(item, route, self.states.values(), self.now, message_id)
        await self._write(reports, found)

    # Reading and locking

    async def _find_messages(self, reports: Sequence[tuple[StatusReported, str]], sent: set[str]) -> Targets:
        """What each status is about. Where it is not known yet, or a status or `sent` tells of it just now, nobody else
        may learn of it, or park a status of it, before we are done.
        """
        found = await self._match(reports) if reports else {}
        unknown = {item.provider_id for item, _ in reports if item.provider_id and item.key not in found}
        unknown |= {provider_id for _, provider_id in self.naming}
        if unknown or sent:
            await inbound.lock_provider_ids(self.conn, unknown | sent)
        if unknown:
            found = await self._match(reports)
            await self._take_parked()
        return found

    async def _take_parked(self) -> None:
        """What was parked of messages that this batch tells the provider's id of (E7)."""
        for name in sorted(self.naming):
            self.parked[name] = rows = await inbound.take_orphans(self.conn, *name)
            errors = [report.error for row in rows if (report := unparked(row, self.now)).error]
            self.hearing.add(self.naming[name], wish_in(name[0], errors))

    async def _match(self, reports: Sequence[tuple[StatusReported, str]]) -> Targets:
        """The outbound messages, and their conversations, that each status is about: by the hub's id where the
        provider hands it back and it is not some other message's, else by the provider's id.
        """
        by_provider = await messages.find_sent_as(
            self.conn, {(provider, item.provider_id) for item, provider in reports if item.provider_id}
        )
        hub_ids = {item.key: hub_id for item, _ in reports if (hub_id := _hub_id(item))}
        by_hub = await messages.find_outbound(self.conn, set(hub_ids.values()))
        found: Targets = {}
        self.naming = {}
        for item, provider in reports:
            known = by_provider.get((provider, item.provider_id or ""))
            row = by_hub.get(hub_ids[item.key]) if item.key in hub_ids else None
            if known is None and row and row["provider"] == provider and row["provider_id"] in {None, item.provider_id}:
                known = [(row["id"], row["conversation_id"])]
                if item.provider_id:
                    self.naming.setdefault((provider, item.provider_id), item.key)
            if known:
                found[item.key] = known
        for item, provider in reports:  # one that names a message names it for its neighbours, too
            key = self.naming.get((provider, item.provider_id or ""))
            if key and item.key not in found:
                found[item.key] = found[key]
        return found

    async def _find_threads(self, talk: Sequence[tuple[Talk, Route]]) -> None:
        """Every conversation of the batch: from memory, or found, or made."""
        missing: dict[ThreadKey, tuple[Route, Customer]] = {}
        for item, route in talk:
            customer = item.customer
            who = identity(customer)
            for channel in route.channels:
                key = channel.id, route.medium, who
                if key in self.threads:
                    continue
                thread = self.directory.find(key)
                if thread is None or customer.name not in {None, thread.contact.name}:
                    missing[key] = route, customer
                else:
                    self.threads[key] = thread
        if missing:
            self.result.learned = await resolve(self.conn, list(missing.values()))
            self.threads |= self.result.learned

    async def _lock(self, talk: Sequence[tuple[Talk, Route]], others: set[UUID]) -> None:
        """Lock the conversations with their next numbers; what was remembered of one must still stand."""
        wanted: dict[UUID, tuple[int, datetime | None]] = dict.fromkeys(others, (0, None))
        for item, route in talk:
            written = self._written(item)
            for channel in route.channels:
                key = self._thread(item, route, channel).conversation.id
                count, latest = wanted.get(key, (0, None))
                wanted[key] = count + 1, max(latest or written, written) if written else latest
        self.states = await conversations.number_events(self.conn, wanted)
        self.numbered = {key: state.last_sequence + wanted[key][0] for key, state in self.states.items()}
        stale = [key for key, thread in self.threads.items() if self._is_stale(thread)]
        if stale:
            self.directory.forget(stale)
            raise TryAgain("contacts of this batch have changed")

    def _written(self, item: Talk) -> datetime | None:
        """When the customer wrote this, where it is a message of the customer's: the reply window counts from it."""
        if not isinstance(item, MessageReceived) or _is_ours(item):
            return None
        at = _time(item.at)
        return min(at, self.now) if at else self.now

    def _is_stale(self, thread: Thread) -> bool:
        state = self.states.get(thread.conversation.id)
        return state is None or state.generation != thread.conversation.generation

    async def _look_up(self, talk: Sequence[tuple[Talk, Route]], found: Targets) -> None:
        """Whatever else this batch needs to know; most batches need nothing."""
        if found:
            targets = [target for targets in found.values() for target in targets]
            self.book = await StatusBook.open(self.conn, {message_id for message_id, _ in targets})
            people = {self.states[conversation_id].contact_id for _, conversation_id in targets}
            self.contacts = await contacts.list_contacts(self.conn, people)
        answered = {
            (item.sender.provider, target)
            for item, _ in talk
            if isinstance(item, MessageReceived) and (target := _answered(item))
        }
        self.authors = await messages.find_authors(self.conn, answered)
        if any(target not in self.authors for _, target in answered):
            # Tapped before the provider's answer to our send was recorded: it can only be what has no name yet.
            self.unnamed = await messages.find_unnamed_authors(self.conn, self.states)
        self.targets = await messages.find_in_conversations(self.conn, set(self._targets(talk)))
        await self.hearing.open(found, self.states, self.contacts)

    def _targets(self, talk: Sequence[tuple[Talk, Route]]) -> Iterable[tuple[UUID, str]]:
        for item, route in talk:
            if isinstance(item, MessageEdited | MessageDeleted | ReactionChanged) and item.target_id:
                for channel in route.channels:
                    yield self._thread(item, route, channel).conversation.id, item.target_id

    def _thread(self, item: Talk, route: Route, channel: ChannelRoute) -> Thread:
        return self.threads[channel.id, route.medium, identity(item.customer)]

    # One item after the other

    def _talk(self, item: Talk, route: Route, provider: str) -> UUID | None:
        """Once per channel of the number (B7); gives the id of the first channel's message."""
        stored = len(self.stored)
        for channel in route.channels:
            thread = self._thread(item, route, channel)
            state = self.states[thread.conversation.id]
            if isinstance(item, MessageReceived):
                self._message(item, provider, channel, thread, state)
            else:
                self._change(item, thread, state)
        return self.stored[stored].id if len(self.stored) > stored else None

    def _message(
        self, item: MessageReceived, provider: str, channel: ChannelRoute, thread: Thread, state: ConversationState
    ) -> None:
        is_ours = _is_ours(item)
        if not is_ours:
            self._note_address(item.customer, state)
        draft = MessageDraft(
            id=new_id(),
            number_id=state.number_id,
            channel_id=state.channel_id,
            conversation_id=state.id,
            sequence=state.next_sequence(),
            direction="outbound" if is_ours else "inbound",
            medium=state.medium,
            type=item.type,
            origin=item.origin,
            content={k: v for k, v in item.content.items() if k != "sent_by"},
            provider=provider,
            created_at=self.now,
            provider_id=item.provider_id,
            provider_time=_time(item.at),
            status="sent" if is_ours else None,
            unrouted=channel.is_unrouted,
            raw=item.raw,
        )
        self.stored.append(draft)
        if draft.provider_id:  # what comes after it in this batch may be about it
            self.targets[state.id, draft.provider_id] = {
                "id": draft.id,
                "type": draft.type,
                "sequence": draft.sequence,
                "direction": draft.direction,
                "author_service_id": None,
                "created_at": draft.created_at,
            }
        data = describe.conversation_data(state, thread.contact)
        data["message"] = describe.received_message(draft)
        target = _answered(item)
        author = self.authors.get(target) or self.unnamed.get(state.id) if target else None
        if author:
            data["answered_service_id"] = public_id("svc", author)
        self._emit("message.received", data, state, draft.sequence, draft.id)

    def _note_address(self, customer: Customer, state: ConversationState) -> None:
        """Replies go to the form of address the customer last wrote from."""
        known = state.reply_to
        reported = customer.phone if known.type == "phone" else customer.user_id if not customer.phone else None
        if known.value != reported and (wanted := reply_address(customer)) != known:
            state.reply_to = wanted
            self.moved.add(state.id)

    def _change(
        self, item: MessageEdited | MessageDeleted | ReactionChanged, thread: Thread, state: ConversationState
    ) -> None:
        target = self.targets.get((state.id, item.target_id or ""))
        sequence = state.next_sequence()
        data = describe.conversation_data(state, thread.contact)
        about = {"id": public_id("msg", target["id"]) if target else None, "provider_id": item.target_id}
        if target and isinstance(item, MessageEdited | MessageDeleted) and _is_of(item, target):
            self.edits.append((target["id"], item))
        if isinstance(item, ReactionChanged):
            data["reaction"] = {"emoji": item.emoji, "message": about, "provider_time": _time(item.at)}
        else:
            data["message"] = about | _changed_message(item, state, target)
        # What the phone app makes of a service's message is still that service's content (C1).
        is_rewritten = item.origin != "customer" and not isinstance(item, ReactionChanged)
        message_id, rewritten = target and target["id"], target if is_rewritten else None
        self._emit(_CHANGE_EVENTS[type(item)], data, state, sequence, message_id, rewritten)

    def _report(self, item: StatusReported, provider: str, message_id: UUID, conversation_id: UUID) -> None:
        """Move the message; and by what was parked of it, where this is what names it."""
        state = self.states[conversation_id]
        parked = self.parked.pop((provider, item.provider_id or ""), ())
        for report in (_report(item, self.now), *(unparked(row, self.now) for row in parked)):
            draft = self.book.take(message_id, report, state, self.contacts[state.contact_id])
            if draft:
                self.drafts.append(draft)

    def _emit(
        self, kind: str, data: dict[str, Any], state: ConversationState, sequence: int, message_id: UUID | None,
        rewritten: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.drafts.append(
            EventDraft(
                type=kind,
                lane=state.id,
                at=self.now,
                data=data,
                number_id=state.number_id,
                channel_id=state.channel_id,
                conversation_id=state.id,
                sequence=sequence,
                reply_window_expires_at=state.reply_window_expires_at,
                picked_up_by=state.picked_up_by,
                message_id=message_id,
                author_service_id=rewritten["author_service_id"] if rewritten else None,
                written_at=rewritten["created_at"] if rewritten else None,
            )
        )

    # Writing

    async def _write(self, reports: Sequence[tuple[StatusReported, str]], found: Targets) -> None:
        orphans = [(item, provider) for item, provider in reports if item.key not in found]
        await inbound.add_orphans(self.conn, [_orphan(item, provider) for item, provider in orphans])
        await self.book.save(self.conn)
        await self.hearing.save()
        await messages.add_messages(self.conn, self.stored)
        await self._unpark([draft for draft in self.stored if draft.direction == "outbound" and draft.provider_id])
        for message_id, change in self.edits:
            if isinstance(change, MessageEdited):
                await messages.set_content(self.conn, message_id, change.content, self.now)
            else:
                await messages.set_deleted(self.conn, message_id, self.now)
        changed = [s for s in self.states.values() if s.id in self.moved or s.last_sequence != self.numbered[s.id]]
        await conversations.save(self.conn, changed)
        self.result.events = await event_log.append(self.conn, self.drafts)

    async def _unpark(self, sent: Sequence[MessageDraft]) -> None:
        """Apply the statuses that came before the news of what was sent past the hub (E7)."""
        parked = {
            key: await inbound.take_orphans(self.conn, *key)
            for key in sorted({(draft.provider, draft.provider_id) for draft in sent if draft.provider_id})
        }
        if not any(parked.values()):
            return
        book = await StatusBook.open(self.conn, {draft.id for draft in sent})
        people = await contacts.list_contacts(self.conn, {self.states[d.conversation_id].contact_id for d in sent})
        for draft in sent:
            state = self.states[draft.conversation_id]
            for row in parked[draft.provider, draft.provider_id or ""]:
                event = book.take(draft.id, unparked(row, self.now), state, people[state.contact_id])
                self.drafts += [event] if event else []
        await book.save(self.conn)


def _changed_message(
    item: MessageEdited | MessageDeleted, state: ConversationState, target: Mapping[str, Any] | None
) -> dict[str, Any]:
    return {
        "direction": "inbound",
        "medium": state.medium,
        "type": target["type"] if target else None,
        "origin": item.origin,
        "sequence": target["sequence"] if target else None,
        "author": None,
        "provider_time": _time(item.at),
        **(item.content if isinstance(item, MessageEdited) else {}),
    }


def _is_of(item: MessageEdited | MessageDeleted, target: Mapping[str, Any]) -> bool:
    """Whether who changes a message is on the side that wrote it: a customer cannot rewrite what we said."""
    return item.origin == "external" or (item.origin == "echo") == (target["direction"] == "outbound")


def _is_ours(item: MessageReceived) -> bool:
    """Whether the business said this, past the hub: from its phone app, or through Meta's own agent."""
    return item.origin == "echo" or item.content.get("sent_by") == "business"


def _hub_id(item: StatusReported) -> UUID | None:
    try:
        return parse_id("msg", item.hub_id) if item.hub_id else None
    except NotFound:
        return None


def _answered(item: Talk) -> str | None:
    """The provider id of our message that a tapped button belongs to: its payload is that author's only (C1)."""
    if not isinstance(item, MessageReceived) or item.type not in {"button", "interactive"}:
        return None
    reply_to = item.content.get("reply_to")
    return reply_to.get("provider_id") if isinstance(reply_to, dict) else None


def _report(item: StatusReported, now: datetime) -> Report:
    return Report(
        status=item.status,
        reported=item.reported,
        at=now,
        provider_time=_time(item.at),
        error=item.errors[0] if item.errors else None,
        details=item.details,
        provider_id=item.provider_id,
    )


def _orphan(item: StatusReported, provider: str) -> tuple[Any, ...]:
    details = {"errors": item.errors, "details": item.details}
    return (
        provider,
        item.provider_id,
        _hub_id(item),
        item.status,
        item.reported,
        _time(item.at),
        orjson.dumps(details).decode(),
    )
