"""What was said before the number was connected: kept in the timeline, below its first number, and told to nobody."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from hub.actions.batch import Batch, Placed, told_content
from hub.store import messages
from hub.store.pool import Record
from hub.store.routes import ChannelRoute, Route
from providers.base import MessageReceived

PLACEHOLDER: Final = "media_placeholder"
"""The type of a message of the history whose file is told of by itself, before or after."""
Edit = tuple[UUID, str, dict[str, Any]]
"""A message of the timeline, with the type and content it has from now on."""

_Told = tuple[MessageReceived, Route, ChannelRoute, str]


async def take_history(
    batch: Batch, entries: Sequence[Placed], stored: Mapping[tuple[UUID, str], Record]
) -> list[Edit]:
    """Number these downwards in each conversation, the newest first. What is in the timeline already (`stored`, by
    conversation and provider id) stays as it is; gives what is filled in, where it was a placeholder until now.
    """
    edits: list[Edit] = []
    by_conversation: dict[UUID, dict[str, _Told]] = {}
    for told, conversation_id in _spread(batch, entries):
        item, route, _, _ = told
        known = stored.get((conversation_id, item.provider_id or ""))
        if known is None:
            named = by_conversation.setdefault(conversation_id, {})
            if item.type != PLACEHOLDER or item.provider_id not in named:
                named[item.provider_id or item.key] = told
        elif known["history"] and known["type"] == PLACEHOLDER != item.type:
            edits.append((known["id"], item.type, told_content(batch.media.name(item, route.sender_id, batch.now))))
            batch.media.note(item, known["id"])
    lowest = await messages.find_lowest(batch.conn, by_conversation)
    for conversation_id, named in by_conversation.items():
        next_below = min(lowest.get(conversation_id, 1), 1) - 1
        for place, told in enumerate(_newest_first(list(named.values()))):
            item, route, channel, provider = told
            batch.write(item, route, channel, provider, batch.states[conversation_id], next_below - place)
    return edits


def filled_in(content: Mapping[str, Any]) -> str:
    """The type of a placeholder whose file is known now."""
    files = content.get("media") or [{}]
    kind = str(files[0].get("mime_type") or "").partition(";")[0]
    if kind == "image/webp":
        return "sticker"
    family = kind.partition("/")[0]
    return family if family in {"image", "video", "audio"} else "document"


def _spread(batch: Batch, entries: Sequence[Placed]) -> Iterable[tuple[_Told, UUID]]:
    """Each of them once for each channel."""
    for item, route, provider in entries:
        if isinstance(item, MessageReceived) and item.is_history:
            for channel in route.channels:
                yield (item, route, channel, provider), batch.thread(item, route, channel).conversation.id


def _newest_first(told: list[_Told]) -> Iterable[_Told]:
    """By the provider's time; of one second as the provider listed them, whichever way that is."""
    first, last = told[0][0].at or 0, told[-1][0].at or 0
    return sorted(told if first > last else reversed(told), key=lambda entry: -(entry[0].at or 0))
