"""Reconciliation: what of a provider's list never came by webhook (rule B3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from hub.actions.arrivals import Arrival
from hub.store import reconciliations
from hub.store.inbound import key_digest
from hub.store.pool import Connection
from hub.store.routes import Route, find_routes
from providers.base import Item, MessageReceived, SenderRef, StatusReported, Unparsed

Outcome = Literal["done", "waiting", "not_configured", "provider_unavailable", "unavailable", "failed"]


_Talk = MessageReceived | StatusReported
_WHOLE_SECOND: Final = 1.0
"""Providers count no finer."""


@dataclass(frozen=True, slots=True)
class Round:
    """How comparing one provider's list went: `listed` is what the provider told, `taken` what was missing here.

    `waiting`: webhooks of an outage lie in the spool, and go first. Unless it is `done`, the same is asked again.
    """

    provider: str
    outcome: Outcome
    since: datetime | None = None
    until: datetime | None = None
    listed: int = 0
    taken: int = 0
    detail: str | None = None


async def find_missing(conn: Connection, arrivals: Sequence[Arrival]) -> list[Arrival]:
    """Those that are about senders registered here and were not taken in before, in their order.

    An account may serve more than this hub: what its list says of other numbers is none of ours, nor is what customers
    wrote before their number was registered here. What cannot be read is kept, once.
    """
    items = [a.item for a in arrivals]
    routes = await find_routes(conn, {item.sender for item in items if isinstance(item, _Talk)})
    known = await reconciliations.find_known(conn, {_mark(item) for item in items})
    return [a for a in arrivals if _is_ours(a.item, routes) and _mark(a.item) not in known]


def _is_ours(item: Item, routes: Mapping[SenderRef, Route]) -> bool:
    if isinstance(item, Unparsed):
        return not item.is_note
    route = routes.get(item.sender) if isinstance(item, _Talk) else None
    if route is None or route.since is None or not isinstance(item, MessageReceived):
        return route is not None
    return item.at is None or item.at >= route.since.timestamp() - _WHOLE_SECOND


def _mark(item: Item) -> bytes:
    """What an item is known by, once it was taken in, or quarantined."""
    return key_digest(f"{item.key}:{item.reason}" if isinstance(item, Unparsed) else item.key)
