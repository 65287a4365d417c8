"""Verb of the operator: take in after all what was quarantined (rule B5)."""

from collections.abc import Mapping
from datetime import datetime

from hub.actions.arrivals import Arrival
from hub.actions.receive import Received, receive
from hub.actions.resolve import Directory
from hub.domain.errors import Conflict, NotFound
from hub.store import audit, inbound
from hub.store.pool import BadData, Connection, savepoint
from providers.base import Route, WebhookRequest

OPERATOR = "operator"
Parsers = Mapping[str, tuple[str, Route]]
"""Every provider's name and route by its path, those that nobody can call too."""


async def replay_quarantined(conn: Connection, parsers: Parsers, entry_id: int, now: datetime) -> Received:
    """Parse an entry again and take it in. Raises `NotFound`, `Conflict` (`still_quarantined`, `no_such_route`)."""
    entry = await inbound.find_quarantined(conn, entry_id)
    if entry is None:
        raise NotFound("there is no such quarantine entry")
    provider, route = _route(parsers, entry["path"], entry["provider"])
    headers = {"content-type": entry["content_type"]} if entry["content_type"] else {}
    request = WebhookRequest(entry["path"], headers, bytes(entry["raw"]))
    arrivals = [Arrival(item, provider, request, route) for item in route.parse(request)]
    try:
        async with savepoint(conn):
            received = await receive(conn, Directory(), arrivals, now)
    except BadData:
        reasons = {"not_storable"}
    else:
        reasons = {entry.reason for entry in received.quarantined if not entry.is_note}
    if reasons:
        raise Conflict(
            f"it still cannot be taken in: {', '.join(sorted(reasons))}",
            code="still_quarantined",
            reasons=sorted(reasons),
        )
    await inbound.finish_quarantined(conn, entry_id)
    await audit.add_audit(conn, OPERATOR, "quarantine.replayed", subject=str(entry_id))
    return received


def _route(parsers: Parsers, came_by: str, provider: str) -> tuple[str, Route]:
    """Who reads what came by this path: kept in one spelling today, with whatever stood before it once."""
    path = came_by.partition("?")[0]
    for known in sorted(parsers, key=len, reverse=True):
        if path.endswith(known):
            return parsers[known]
    raise Conflict(
        f"Nothing here reads what came by {path!r} (rule B5): connect the provider {provider!r} again with its "
        "settings, or leave the entry as it is.",
        code="no_such_route",
    )
