"""What providers' webhooks bring: which of it can be taken in, and what is kept of the rest (rule B5)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hub.store.inbound import Quarantined, key_digest
from hub.store.routes import Route
from providers.base import (
    Item,
    MessageDeleted,
    MessageEdited,
    MessageReceived,
    PreferenceChanged,
    ReactionChanged,
    SenderRef,
    StatusReported,
    Unparsed,
    WebhookRequest,
)
from providers.base import Route as WebhookRoute

Talk = MessageReceived | MessageEdited | MessageDeleted | ReactionChanged
"""What customers say and do."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One item, with the webhook it came in."""

    item: Item
    provider: str
    request: WebhookRequest
    route: WebhookRoute


Accepted = tuple[Talk | PreferenceChanged | StatusReported, Route, str]
"""An item, where it goes, and the provider it came from."""


def sort_out(
    arrivals: Sequence[Arrival], routes: Mapping[SenderRef, Route]
) -> tuple[list[Accepted], list[Quarantined]]:
    """Part what can be taken in from what must be quarantined, and why (B5)."""
    accepted: list[Accepted] = []
    kept: list[Quarantined] = []
    keeper = _Keeper()
    for arrival in arrivals:
        item = arrival.item
        if isinstance(item, Unparsed):
            kept.append(quarantined(arrival, item.reason, item.detail, item.raw, is_note=item.is_note))
            continue
        route = routes.get(item.sender)
        if route is None:
            kept.append(keeper.misplaced(arrival, item))
        elif not isinstance(item, StatusReported) and not item.customer.is_known:
            kept.append(keeper.isolated(arrival, "no_customer", "the item names no customer"))
        else:
            accepted.append((item, route, arrival.provider))
    return accepted, kept


class _Keeper:
    """Cuts single items out of their webhooks; a webhook is taken apart once, however many items are kept of it."""

    def __init__(self) -> None:
        self._envelopes: dict[int, Mapping[str, bytes]] = {}

    def misplaced(self, arrival: Arrival, item: Talk | PreferenceChanged | StatusReported) -> Quarantined:
        """An item for a number that is not there."""
        if not item.sender.external_ids:
            return self.isolated(arrival, "no_number", "the item does not say which number it is for")
        name = item.sender.external_ids[0][:40]
        return self.isolated(arrival, "unknown_number", f"no sender {name!r} is registered")

    def isolated(self, arrival: Arrival, reason: str, detail: str) -> Quarantined:
        """One item with the bytes that hold it alone."""
        found = self._envelopes.get(id(arrival.request))
        if found is None:
            found = self._envelopes[id(arrival.request)] = arrival.route.envelopes(arrival.request)
        raw = found.get(arrival.item.key, arrival.request.body)
        return quarantined(arrival, reason, detail, raw)


def quarantined(arrival: Arrival, reason: str, detail: str, raw: bytes, *, is_note: bool = False) -> Quarantined:
    """What is kept of an item, with what it came with; the path in one spelling, by which its route is found again."""
    _, mark, query = arrival.request.path.partition("?")
    return Quarantined(
        key_digest(f"{arrival.item.key}:{reason}"),
        arrival.provider,
        arrival.route.path + mark + query,
        arrival.request.headers.get("content-type"),
        reason,
        detail,
        raw,
        is_note,
    )
