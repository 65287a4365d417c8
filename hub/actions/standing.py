"""Reading: how everything stands just now: numbers, senders, channels, who is parent, and how deliveries go."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from hub.actions.delivery_view import view_deliveries
from hub.actions.sender_health import list_views
from hub.domain.ids import parse_id, public_id
from hub.store import delivery_desk, numbers, standing
from hub.store.pool import Connection, Record

NUMBERS: Final = 50
"""Numbers that are shown at once: those in trouble, and the oldest."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What there is: each number with its senders and channels, each channel with who is connected and how deliveries
    to them go, each with its number of dead letters. `backlog`: messages that wait for a sender, for the operator.
    """

    numbers: list[dict[str, Any]]
    number_count: int
    service_count: int
    backlog: list[dict[str, Any]]

    @property
    def connections(self) -> list[dict[str, Any]]:
        """All connections of all channels whose deliveries the viewer may see."""
        channels = [channel for number in self.numbers for channel in number["channels"]]
        return [member for channel in channels for member in channel["members"] if member["delivery"]]


async def read_standing(conn: Connection, service_id: UUID | None) -> Standing:
    """How things stand for a service, which is told of its own deliveries only, or (None) for the operator."""
    rows = await standing.list_standing(conn, service_id, NUMBERS)
    shown = [row["subscription_id"] for row in rows if row["subscription_id"] and _is_own(row, service_id)]
    deliveries = {parse_id("sub", view["id"]): view for view in await view_deliveries(conn, shown)}
    dead = await delivery_desk.count_dead(conn, shown)
    number_count, service_count = await standing.count_everything(conn, service_id)
    return Standing(
        await _view_numbers(conn, rows, service_id, deliveries, dead),
        number_count,
        service_count,
        [dict(row) for row in await standing.list_backlog(conn)] if service_id is None else [],
    )


def _is_own(row: Record, service_id: UUID | None) -> bool:
    return service_id is None or row["service_id"] == service_id


async def _view_numbers(
    conn: Connection,
    rows: Sequence[Record],
    service_id: UUID | None,
    deliveries: dict[UUID, Any],
    dead: dict[UUID, int],
) -> list[dict[str, Any]]:
    ids = list(dict.fromkeys(row["number_id"] for row in rows))
    senders: dict[int, list[dict[str, Any]]] = defaultdict(list)
    found = await numbers.list_senders(conn, ids)
    health = await list_views(conn, [row["id"] for row in found], in_full=service_id is None)
    for row in found:
        if row["is_active"]:
            seen = {"medium": row["medium"], "provider": row["provider"], "health": health[row["id"]]}
            senders[row["number_id"]].append(seen)
    by_channel: dict[UUID, list[Record]] = defaultdict(list)
    for row in rows:
        by_channel[row["channel_id"]].append(row)
    channels: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for members in by_channel.values():
        channels[members[0]["number_id"]].append(_view_channel(members, deliveries, dead))
    e164s = {row["number_id"]: row["e164"] for row in rows}
    return [{"id": key, "e164": e164s[key], "senders": senders[key], "channels": channels[key]} for key in ids]


def _view_channel(rows: Sequence[Record], deliveries: dict[UUID, Any], dead: dict[UUID, int]) -> dict[str, Any]:
    first = rows[0]
    members = [
        {
            "id": public_id("sub", row["subscription_id"]),
            "service_id": public_id("svc", row["service_id"]),
            "name": row["service_name"],
            "number": row["e164"],
            "is_parent": row["is_parent"],
            "parent_since": row["parent_since"],
            "connected_at": row["connected_at"],
            "state": row["state"],
            "endpoint_url": deliveries.get(row["subscription_id"], {}).get("endpoint_url"),
            "delivery": deliveries.get(row["subscription_id"], {}).get("delivery"),
            "dead": dead.get(row["subscription_id"], 0),
        }
        for row in rows
        if row["subscription_id"]
    ]
    return {
        "id": public_id("chn", first["channel_id"]),
        "kind": first["kind"],
        "epoch": first["parent_epoch"],
        "parent": next((member for member in members if member["is_parent"]), None),
        "members": members,
    }
