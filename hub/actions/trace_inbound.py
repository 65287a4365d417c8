"""Reading: how a message came in, and what the rules made of it, told from what is stored (A7, B, E)."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import orjson

from hub.domain.events import Event
from hub.domain.keywords import keyword_in
from hub.store import lives
from hub.store.inbound import key_digest
from hub.store.pool import Connection, Record

QUARANTINED: Final = ("no_customer", "no_number", "unknown_number", "not_storable")
"""Why a message that could be read waits in quarantine."""


def key_of(provider: str, provider_id: str) -> str:
    """The key that repeats of a message are recognised by (B4)."""
    return f"{provider}:message:{provider_id}"


def quarantine_view(row: Record) -> dict[str, Any]:
    """An entry of the quarantine, without its bytes."""
    names = ("id", "reason", "state", "times", "received_at", "last_received_at", "replayed_at")
    return {name: row[name] for name in names}


async def view_ingress(conn: Connection, row: Record) -> dict[str, Any]:
    """How a message was taken in. `key_seen_at`: since when repeats of it are dropped; None where that is over, or
    where it has no id at its provider.
    """
    provider_id = row["provider_id"]
    key = key_of(row["provider"], provider_id) if provider_id and not provider_id.startswith("erased:") else None
    found = {digest["at"] for digest in await lives.find_keys(conn, [key_digest(key)])} if key else set()
    reasons = [key_digest(f"{key}:{reason}") for reason in QUARANTINED] if key else []
    entries = await lives.find_quarantined(conn, reasons) if reasons else []
    return {
        "taken_in_at": row["created_at"],
        "provider": row["provider"],
        "provider_id": provider_id,
        "provider_time": row["provider_time"],
        "key": key,
        "key_seen_at": min(found, default=None),
        "reconciled": row["reconciled"],
        "history": row["history"],
        "unrouted": row["unrouted"],
        "quarantine": [quarantine_view(entry) for entry in entries],
    }


def tell_rules(row: Record, ingress: Mapping[str, Any], events: Sequence[Event], heard: int) -> list[dict[str, Any]]:
    """What the rules made of a message that came in; `heard`: how many services of its channel were to hear it, 0
    where that is not for the viewer to know.
    """
    return [
        {"rule": rule, "outcome": outcome, "text": text} for rule, outcome, text in _rules(row, ingress, events, heard)
    ]


def _rules(
    row: Record, ingress: Mapping[str, Any], events: Sequence[Event], heard: int
) -> Iterator[tuple[str, str, str]]:
    if row["history"]:
        yield "B6", "history", "from before the number was connected: in the timeline only, told in no event"
        return
    if row["reconciled"]:
        yield "B4", "reconciled", "fetched from the provider's list, since its webhook never came"
    else:
        yield "B1", "verified", "its webhook's signature was verified before anything of it was read"
    for entry in ingress["quarantine"]:
        state = "and was taken in by a replay" if entry["replayed_at"] else "and is there still"
        yield "B5", "quarantined", f"it waited in quarantine as {entry['reason']} {state}"
    if ingress["key_seen_at"]:
        yield "B4", "first", f"the first with the key {ingress['key']}: repeats of it are dropped"
    elif ingress["key"]:
        yield "B4", "forgotten", "its key is kept no longer: a repeat of it would be a new message"
    yield "B6", "numbered", f"number {row['sequence']} of its conversation, by the order of acceptance"
    if row["unrouted"]:
        yield "A7", "unrouted", "nobody was connected to the number: it reaches services by replay"
    elif events:
        count = f": {heard} of them" if heard else ""
        if row["direction"] == "outbound":
            yield "E1", row["origin"], "sent by the business itself past the hub: no service's, and masked to none"
        yield "B7", "heard", f"in full to every service that was connected to the channel{count}"
    yield from _consent(row)
    opened = next((event.reply_window_expires_at for event in events), None)
    if opened and row["direction"] == "inbound":
        yield (
            "E4",
            "open",
            f"the reply window is open until {opened:%Y-%m-%d %H:%M:%S} UTC by this message at the latest",
        )


def _consent(row: Record) -> Iterator[tuple[str, str, str]]:
    word = keyword_in(orjson.loads(row["content"])) if row["origin"] == "customer" else None
    if word == "stop":
        yield "E5", "stop", "the whole message is a word that stops: consent on this medium is revoked"
    elif word == "start":
        yield "E5", "start", "the whole message is a word that starts: a STOP is lifted for this number"
    elif word == "help":
        yield "E5", "help", "the whole message asks for help; the hub itself never answers"
