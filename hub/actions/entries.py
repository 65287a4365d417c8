"""What customers say and do, put into the timeline of every channel of their number, item by item (rules B6, B7)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from hub.actions import describe
from hub.actions.arrivals import Entry, Heard
from hub.actions.batch import Batch, Placed, is_history, is_ours, provider_time, told_content
from hub.actions.hands import Hands
from hub.actions.resolve import Thread, reply_address
from hub.actions.take_history import PLACEHOLDER, Edit, filled_in, take_history
from hub.domain.events import EventDraft
from hub.domain.ids import public_id
from hub.store import messages
from hub.store.conversations import ConversationState
from hub.store.pool import Record
from hub.store.routes import ChannelRoute, Route
from providers.base import ControlChanged, Customer, MessageDeleted, MessageEdited, MessageReceived, ReactionChanged

_Change = MessageEdited | MessageDeleted | ReactionChanged
_SOURCE: Final = frozenset({"id", "url", "sha256"})
_CHANGE_EVENTS: Final[dict[type, str]] = {
    MessageEdited: "message.edited",
    MessageDeleted: "message.deleted",
    ReactionChanged: "reaction.changed",
}


class Entries:
    """The entries of one batch: `open` once conversations are locked, then `take` each in order, then `save`."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._hands = Hands(batch)
        self._stored: Mapping[tuple[UUID, str], Record] = {}
        self._authors: dict[str, UUID] = {}
        self._unnamed: dict[UUID, UUID] = {}
        self._edits: list[Edit] = []
        self._deleted: list[UUID] = []
        self._replaced: list[UUID] = []

    async def open(self, entries: Sequence[Placed]) -> None:
        """Whatever else these need to know; most need nothing. History is taken in here."""
        batch = self._batch
        await self._find_authors(entries)
        self._stored = await messages.find_stored(batch.conn, set(self._told(entries)))
        batch.targets |= await messages.find_in_conversations(batch.conn, set(self._targets(entries)))
        self._edits += await take_history(batch, entries, self._stored)
        await self._hands.open(entries)

    async def _find_authors(self, entries: Sequence[Placed]) -> None:
        answered = {
            (item.sender.provider, target)
            for item, _, _ in entries
            if isinstance(item, MessageReceived) and (target := _answered(item))
        }
        self._authors = await messages.find_authors(self._batch.conn, answered)
        if any(target not in self._authors for _, target in answered):
            # Tapped before the provider's answer to our send was recorded: it can only be what has no name yet.
            self._unnamed = await messages.find_unnamed_authors(self._batch.conn, self._batch.states)

    def _told(self, entries: Sequence[Placed]) -> Iterable[tuple[str, str, UUID, UUID]]:
        """What may be in the timeline under another key: as history, or sent past the hub."""
        for item, route, provider in entries:
            if isinstance(item, MessageReceived) and item.provider_id:
                for channel in route.channels:
                    state = self._batch.states[self._batch.thread(item, route, channel).conversation.id]
                    yield provider, item.provider_id, state.channel_id, state.id

    def _targets(self, entries: Sequence[Placed]) -> Iterable[tuple[str, UUID, str]]:
        for item, route, provider in entries:
            if isinstance(item, _Change) and item.target_id:
                for channel in route.channels:
                    yield provider, self._batch.thread(item, route, channel).conversation.id, item.target_id

    # One item after the other

    def take(self, item: Entry, route: Route, provider: str) -> UUID | None:
        """Once per channel of the number; gives the id of the first channel's message."""
        first: UUID | None = None
        for channel in route.channels:
            thread = self._batch.thread(item, route, channel)
            state = self._batch.states[thread.conversation.id]
            if is_history(item):
                continue
            self._hands.hear(item, provider, channel, thread, state)
            if isinstance(item, MessageReceived):
                message_id = self._message(item, provider, route, channel, thread, state)
                first = first or message_id
            elif not isinstance(item, ControlChanged):
                self._change(item, route, thread, state)
        return first

    def _message(
        self, item: MessageReceived, provider: str, route: Route, channel: ChannelRoute, thread: Thread,
        state: ConversationState,
    ) -> UUID | None:  # fmt: skip
        batch, is_sent = self._batch, is_ours(item)
        place = state.id, item.provider_id or ""
        if is_sent and (place in self._stored or place in batch.targets):
            return None  # it is there already: from the history, or because the hub itself sent it
        known = self._stored.get(place)
        if known and known["history"]:
            self._replaced.append(known["id"])  # its own webhook was late: from now on it is what was said just now
        if not is_sent and item.opens_window:
            self._note_address(item.customer, state)
        draft = batch.write(item, route, channel, provider, state, state.next_sequence())
        data = describe.conversation_data(state, thread.contact)
        data["message"] = describe.received_message(draft)
        target = _answered(item)
        author = self._authors.get(target) or self._unnamed.get(state.id) if target else None
        if author:
            data["answered_service_id"] = public_id("svc", author)
        self._emit("message.received", data, state, draft.sequence, draft.id)
        return draft.id

    def _note_address(self, customer: Customer, state: ConversationState) -> None:
        """Replies go to the form of address the customer last wrote from."""
        known = state.reply_to
        reported = customer.phone if known.type == "phone" else customer.user_id if not customer.phone else None
        if known.value != reported and (wanted := reply_address(customer)) != known:
            state.reply_to = wanted
            self._batch.moved.add(state.id)

    def _change(self, item: _Change, route: Route, thread: Thread, state: ConversationState) -> None:
        target = self._batch.targets.get((state.id, item.target_id or ""))
        content = self._rewrite(item, route, target)
        if target and target["history"] and isinstance(item, MessageEdited):
            return  # what the history left open is filled in: nobody was told of it, or is now
        sequence = state.next_sequence()
        data = describe.conversation_data(state, thread.contact)
        about = {"id": public_id("msg", target["id"]) if target else None, "provider_id": item.target_id}
        if isinstance(item, ReactionChanged):
            data["reaction"] = {
                "emoji": item.emoji, "origin": item.origin, "message": about, "provider_time": provider_time(item.at),
            }  # fmt: skip
        else:
            data["message"] = about | _changed_message(item, state, target) | content
        # What the phone app makes of a service's message is still that service's content (C1).
        is_rewritten = item.origin != "customer" and not isinstance(item, ReactionChanged)
        message_id: UUID | None = target["id"] if target else None
        rewritten = target if is_rewritten else None
        self._emit(_CHANGE_EVENTS[type(item)], data, state, sequence, message_id, rewritten)

    def _rewrite(self, item: _Change, route: Route, target: Mapping[str, Any] | None) -> dict[str, Any]:
        """Change the message itself, where who does it may; gives its new content."""
        is_theirs = target is not None and not isinstance(item, ReactionChanged) and _is_of(item, target)
        if isinstance(item, MessageDeleted) and target and is_theirs:
            self._deleted.append(target["id"])
        if not isinstance(item, MessageEdited):
            return {}
        if target is None or not is_theirs:
            return told_content(_without_files(item.content))
        content = told_content(self._batch.media.name(item, route.sender_id, self._batch.now))
        self._batch.media.note(item, target["id"])
        kind = filled_in(content) if target["type"] == PLACEHOLDER else target["type"]
        self._edits.append((target["id"], kind, content))
        return content

    def _emit(
        self, kind: str, data: dict[str, Any], state: ConversationState, sequence: int, message_id: UUID | None,
        rewritten: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self._batch.drafts.append(
            EventDraft(
                type=kind,
                lane=state.id,
                at=self._batch.now,
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

    async def save(self) -> None:
        """Write what was said, and what was changed of it."""
        batch = self._batch
        await messages.remove(batch.conn, self._replaced)
        await messages.add_messages(batch.conn, batch.stored)
        await messages.set_contents(batch.conn, self._edits, batch.now)
        await messages.set_deleted(batch.conn, self._deleted, batch.now)
        await batch.media.save(batch.conn)


def is_filling_in(item: Heard, batch: Batch, route: Route) -> bool:
    """Whether this gives history what it lacked: nothing in it was said just now."""
    if not isinstance(item, MessageEdited) or not item.target_id:
        return False
    found = (batch.targets.get((batch.thread(item, route, c).conversation.id, item.target_id)) for c in route.channels)
    return any(target and target["history"] for target in found)


def _changed_message(
    item: MessageEdited | MessageDeleted, state: ConversationState, target: Mapping[str, Any] | None
) -> dict[str, Any]:
    direction = "outbound" if item.origin == "echo" else "inbound"
    return {
        "direction": target["direction"] if target and item.origin == "external" else direction,
        "medium": state.medium,
        "type": target["type"] if target else None,
        "origin": item.origin,
        "sequence": target["sequence"] if target else None,
        "author": None,
        "provider_time": provider_time(item.at),
    }


def _without_files(content: Mapping[str, Any]) -> dict[str, Any]:
    """Content that belongs to no message of ours: nobody fetches its files, or would erase them (H5)."""
    files = [{name: part for name, part in file.items() if name not in _SOURCE} for file in content.get("media", ())]
    return {**content, "media": files} if files else dict(content)


def _is_of(item: MessageEdited | MessageDeleted, target: Mapping[str, Any]) -> bool:
    """Whether who changes a message is on the side that wrote it: a customer cannot rewrite what we said."""
    return item.origin == "external" or (item.origin == "echo") == (target["direction"] == "outbound")


def _answered(item: Entry) -> str | None:
    """The provider id of our message that a tapped button belongs to: its payload is that author's only (C1)."""
    if not isinstance(item, MessageReceived) or item.is_history or item.type not in {"button", "interactive"}:
        return None
    reply_to = item.content.get("reply_to")
    return reply_to.get("provider_id") if isinstance(reply_to, dict) else None
