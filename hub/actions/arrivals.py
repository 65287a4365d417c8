"""What providers' webhooks bring: which of it can be taken in, and what is kept of the rest (rule B5)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hub.store.account_routes import SenderPlace
from hub.store.inbound import Quarantined, key_digest
from hub.store.routes import Route
from providers.base import (
    AccountRef,
    ControlChanged,
    IdentityChanged,
    Item,
    MessageDeleted,
    MessageEdited,
    MessageReceived,
    PreferenceChanged,
    ReactionChanged,
    SenderNotice,
    SenderRef,
    StatusReported,
    TemplateChanged,
    Unparsed,
    WebhookRequest,
)
from providers.base import Route as WebhookRoute

Talk = MessageReceived | MessageEdited | MessageDeleted | ReactionChanged
"""What customers say and do."""
Heard = Talk | PreferenceChanged | StatusReported
"""What may say something of consent (rule E5)."""
Entry = Talk | ControlChanged
"""What goes into timelines."""
Routed = Heard | ControlChanged | IdentityChanged
"""What goes to the channels of one sender's number."""
News = TemplateChanged | SenderNotice
"""What is about senders, templates or a whole account of the business."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One item, with the webhook it came in."""

    item: Item
    provider: str
    request: WebhookRequest
    route: WebhookRoute


Accepted = tuple[Routed, Route, str]
"""An item, where it goes, and the provider it came from."""
AccountNews = tuple[News, Sequence[SenderPlace]]
"""A notice, and the senders it is about."""


def sort_out(
    arrivals: Sequence[Arrival],
    routes: Mapping[SenderRef, Route],
    places: Mapping[AccountRef, Sequence[SenderPlace]],
) -> tuple[list[Accepted], list[AccountNews], list[Quarantined]]:
    """Part what can be taken in, of customers and of accounts, from what must be quarantined, and why (B5)."""
    accepted: list[Accepted] = []
    news: list[AccountNews] = []
    kept: list[Quarantined] = []
    keeper = _Keeper()
    for arrival in arrivals:
        item = arrival.item
        if isinstance(item, Unparsed):
            kept.append(quarantined(arrival, item.reason, item.detail, item.raw, is_note=item.is_note))
        elif isinstance(item, News):
            if found := places.get(item.account):
                news.append((item, found))
            else:
                kept.append(keeper.isolated(arrival, "unknown_account", _stranger(item.account)))
        elif (route := routes.get(item.sender)) is None:
            kept.append(keeper.misplaced(arrival, item))
        elif not _is_of_somebody(item):
            kept.append(keeper.isolated(arrival, "no_customer", "the item names no customer"))
        else:
            accepted.append((item, route, arrival.provider))
    return accepted, news, kept


def _is_of_somebody(item: Routed) -> bool:
    """Whether it names a customer; a status need not, its message does."""
    if isinstance(item, IdentityChanged):
        return item.customer.is_known or item.now.is_known
    return isinstance(item, StatusReported) or item.customer.is_known


def _stranger(account: AccountRef) -> str:
    """Why a notice is nobody's; whole phone numbers are not for logs and lists."""
    if account.external_id:
        return f"no sender {account.external_id[:40]!r} is registered"
    if account.phone:
        return f"no number that ends in {account.phone[-4:]!r} is registered"
    return f"no sender of the account {(account.account or '')[:40]!r} is registered, or none was heard of since"


class _Keeper:
    """Cuts single items out of their webhooks; a webhook is taken apart once, however many items are kept of it."""

    def __init__(self) -> None:
        self._envelopes: dict[int, Mapping[str, bytes]] = {}

    def misplaced(self, arrival: Arrival, item: Routed) -> Quarantined:
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
