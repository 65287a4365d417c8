"""What a batch tells of who holds a conversation: this business, or Meta's own agent."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hub.actions import control
from hub.actions.arrivals import Entry
from hub.actions.batch import Batch, Placed, is_history, provider_time
from hub.actions.resolve import Thread
from hub.domain.control import Holder
from hub.store.conversations import ConversationState
from hub.store.routes import ChannelRoute
from providers.base import ControlChanged, MessageReceived


@dataclass(frozen=True, slots=True)
class _News:
    """`reason` is what it was seen by, where the provider did not say it (`content`)."""

    holder: Holder
    content: dict[str, Any] | None = None
    reason: str | None = None


class Hands:
    """The news of one batch; most batches have none, and cost nothing here."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._disputed: set[Any] = set()

    async def open(self, entries: Sequence[Placed]) -> None:
        """What was heard so far of the conversations that Meta's agent is said to have."""
        batch = self._batch
        for item, route, _ in entries:
            if (news := _news_of(item)) and news.holder == "external":
                self._disputed |= {batch.thread(item, route, channel).conversation.id for channel in route.channels}
        if self._disputed:
            await control.catch_up(batch.conn, [batch.states[key] for key in sorted(self._disputed)])
            batch.moved |= self._disputed

    def hear(self, item: Entry, provider: str, channel: ChannelRoute, thread: Thread, state: ConversationState) -> None:
        """Note who holds the conversation by this item; where hands changed, that is an entry before it."""
        batch, news = self._batch, _news_of(item)
        if news is None or not (state.held_by or state.id in self._disputed or isinstance(item, ControlChanged)):
            return
        at = provider_time(item.at)
        batch.moved.add(state.id)
        if not control.note_control(state, news.holder, at, batch.now, is_inferred=news.content is None):
            return
        made = control.handover_drafts(
            state, thread.contact, batch.now, provider=provider, at=at, content=news.content, reason=news.reason,
            unrouted=channel.is_unrouted,
        )  # fmt: skip
        batch.store(made.entry)
        batch.drafts.append(made.event)
        (batch.given_back.discard if state.held_by else batch.given_back.add)(state.id)


def _news_of(item: Entry) -> _News | None:
    if isinstance(item, ControlChanged):
        return _News(item.holder, content=item.content)
    if is_history(item) or (isinstance(item, MessageReceived) and item.type == "call"):
        return None  # calls go past Meta's agent, whoever makes them
    if item.origin == "external":
        return _News("external", reason="standby")
    if isinstance(item, MessageReceived) and item.origin == "customer" and item.opens_window:
        return _News("hub", reason="message")
    return None
