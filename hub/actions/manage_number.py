"""Verbs of the operator: a number's settings and senders (rules A1, A3, C2)."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson

from hub.actions.register import OPERATOR, sender_exists
from hub.actions.roster import find_number, lock_number, read_roster, roster_view, settings_view
from hub.actions.sender_health import list_views
from hub.domain.errors import Invalid, NotFound
from hub.domain.ids import public_id
from hub.store import audit, numbers, subscriptions, visibility
from hub.store.numbers import SenderDraft
from hub.store.pool import BadData, Connection, Record, savepoint


async def change_number(
    conn: Connection, e164: str, now: datetime, *, default_share: str | None, standalone_may_automate: bool | None
) -> None:
    """Change what is not None: what authors of the shared channel share who did not say it themselves (C2), and
    whether services on channels of their own may automate (A3). Raises `NotFound`.
    """
    number = await lock_number(conn, e164)
    channel = await numbers.lock_channel(conn, number["id"], "shared", None)
    assert channel is not None
    changed: dict[str, Any] = {}
    if standalone_may_automate not in {None, number["standalone_may_automate"]}:
        changed["standalone_may_automate"] = standalone_may_automate
        await numbers.set_standalone(conn, number["id"], may_automate=bool(standalone_may_automate))
    if default_share not in {None, channel["default_share"]}:
        assert default_share is not None
        changed["default_share"] = default_share
        await _set_default_share(conn, channel, default_share, now)
    if changed:
        await _add_audit(conn, "number.changed", number, changed)


async def _set_default_share(conn: Connection, channel: Record, share: str, now: datetime) -> None:
    await numbers.set_default_share(conn, channel["id"], share)
    for row in await subscriptions.list_default_sharers(conn, channel["id"]):
        await visibility.add_visibility(conn, channel["id"], row["service_id"], row["display"], share, [], now)


async def put_sender(conn: Connection, e164: str, sender: SenderDraft) -> Record:
    """Make this the active sender of its medium, in place of the one that was (A1); what the customer writes to that
    one still arrives. Raises `NotFound`, `Conflict` (`sender_exists`).
    """
    number = await lock_number(conn, e164)
    try:
        async with savepoint(conn):
            retired = await numbers.put_sender(conn, number["id"], sender)
    except BadData:
        raise sender_exists() from None
    details = {"medium": sender.medium, "provider": sender.provider, "external_id": sender.external_id}
    await _add_audit(conn, "sender.added", number, details | {"replaces": dict(retired) if retired else None})
    return await _lock_sender(conn, number, sender.medium)


async def change_sender(conn: Connection, e164: str, medium: str, wanted: Mapping[str, Any]) -> Record:
    """Change rate, account or activity of a number's active sender for a medium; where none is active, of the newest.
    Raises `NotFound`, `Invalid`.
    """
    number = await lock_number(conn, e164)
    sender = await _lock_sender(conn, number, medium)
    fields = {name: wanted.get(name, sender[name]) for name in ("rate", "account", "is_active")}
    if fields["account"] is not None and sender["provider"] != "meta":
        raise Invalid("Only a sender at Meta belongs to a WhatsApp business account (rule A1): leave account out.")
    await numbers.set_sender(conn, sender["id"], **fields)
    changed = {name: value for name, value in fields.items() if value != sender[name]}
    if changed:
        await _add_audit(conn, "sender.changed", number, {"medium": medium, **changed})
    return await _lock_sender(conn, number, medium)


async def _lock_sender(conn: Connection, number: Record, medium: str) -> Record:
    found = await numbers.lock_sender(conn, number["id"], medium)
    if found is None:
        raise NotFound("This number has no sender for this medium (rule A1): add one with POST.")
    return found


async def _add_audit(conn: Connection, action: str, number: Record, details: Mapping[str, Any]) -> None:
    await audit.add_audit(
        conn, OPERATOR, action, number_id=number["id"], subject=number["e164"], details=orjson.dumps(details).decode()
    )


async def view_number(conn: Connection, e164: str) -> dict[str, Any]:
    """A number as the operator sees it: settings, senders, and every channel with who is on it. Raises `NotFound`."""
    number = await find_number(conn, e164)
    channels = await numbers.list_channels(conn, number["id"])
    return {
        "e164": number["e164"],
        "created_at": number["created_at"],
        "default_share": next(row["default_share"] for row in channels if row["kind"] == "shared"),
        "standalone_may_automate": number["standalone_may_automate"],
        "senders": await view_senders(conn, await numbers.list_senders(conn, [number["id"]])),
        "channels": [await _channel_view(conn, row) for row in channels],
    }


async def _channel_view(conn: Connection, channel: Record) -> dict[str, Any]:
    roster = await read_roster(conn, channel["id"], channel["kind"], channel["parent_epoch"])
    owner = channel["owner_service_id"]
    view = roster_view(roster)
    for member, row in zip(view["subscribers"], roster.members, strict=True):
        member.update(settings_view(row))
    return {**view, "owner_service_id": public_id("svc", owner) if owner else None}


async def view_senders(conn: Connection, rows: Sequence[Record]) -> list[dict[str, Any]]:
    """Senders as the operator sees them; `id` names them in metrics and logs."""
    health = await list_views(conn, [row["id"] for row in rows], in_full=True)
    return [{"id": str(row["id"]), **_sender_view(row), "health": health[row["id"]]} for row in rows]


def _sender_view(row: Record) -> dict[str, Any]:
    return {name: row[name] for name in ("medium", "provider", "external_id", "is_active", "rate", "account")}
