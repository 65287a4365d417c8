"""Whose deliveries are looked at: a service's people see their own, the operator picks the service (rule G3)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from aiohttp import web

from hub.actions.delivery_view import view_deliveries
from hub.actions.manage_service import find_service
from hub.domain.errors import Invalid
from hub.domain.ids import parse_id, public_id
from hub.http.console.fields import Fields, asked, given
from hub.http.console.session import Viewer
from hub.http.schemas import phone_of
from hub.store import delivery_desk, delivery_health, services, subscriptions
from hub.store.pool import Connection

MOST: Final = 200
"""Connections of all services that are looked at, and services to pick from."""
SHOWN: Final = 50
"""Connections that a table shows, those in trouble first."""
_NONE: Final = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Desk:
    """Current connections of one service, or (`service_id` None) of all, on one number or on all. `choices`: the
    services that the operator may pick.
    """

    service_id: UUID | None
    service_name: str | None
    number: str | None
    numbers: list[str]
    connections: list[dict[str, Any]]
    choices: list[tuple[str, str]]

    @property
    def service(self) -> str | None:
        """The service's id as it is written outside."""
        return public_id("svc", self.service_id) if self.service_id else None

    @property
    def troubled_first(self) -> list[dict[str, Any]]:
        """As many connections as a table shows, those that somebody should look at first."""
        return sorted(self.connections, key=trouble_of)[:SHOWN]

    @property
    def ids(self) -> list[UUID]:
        """Of the connections."""
        return [parse_id("sub", connection["id"]) for connection in self.connections]

    def of(self, subscription_id: UUID) -> dict[str, Any]:
        """One of the connections."""
        name = public_id("sub", subscription_id)
        return next(connection for connection in self.connections if connection["id"] == name)


def trouble_of(connection: Mapping[str, Any]) -> tuple[bool, ...]:
    """Sorts connections: endpoints that fail, then those paused, then those that lost events, then those behind."""
    delivery = connection["delivery"]
    return (
        delivery["breaker"] in {None, "closed"},
        delivery["state"] == "active",
        not connection["dead_letters"],
        not delivery["parked_lanes"],
        not (delivery["lag"] and delivery["lag"]["events"]),
    )


async def find_desk(conn: Connection, request: web.Request, viewer: Viewer) -> Desk:
    """The connections that the address asks for (`service`, `number`). Raises `Invalid`, `NotFound`."""
    service_id = viewer.service_id
    if viewer.is_operator and (named := asked(request, "service")):
        service_id = parse_id("svc", named)
    number = phone_of(request, "number") if asked(request, "number") else None
    return await open_desk(conn, viewer, service_id, number)


async def open_desk(conn: Connection, viewer: Viewer, service_id: UUID | None, number: str | None) -> Desk:
    """The current connections of a service (None: of all) on a number (None: on all). Raises `NotFound`."""
    choices = []
    if viewer.is_operator:
        rows = await services.list_services(conn, _NONE, MOST)
        choices = [(public_id("svc", row["id"]), row["name"]) for row in rows]
    name = (await find_service(conn, service_id))["name"] if service_id else None
    found = await _connections(conn, service_id)
    numbers = sorted({connection["number"] for connection in found})
    shown = [connection for connection in found if number in {None, connection["number"]}]
    return Desk(service_id, name, number, numbers, shown, choices)


async def _connections(conn: Connection, service_id: UUID | None) -> list[dict[str, Any]]:
    if service_id is None:
        ids = await delivery_health.list_ids(conn, _NONE, MOST)
    else:
        ids = [row["id"] for row in await subscriptions.list_of_service(conn, service_id)]
    dead = await delivery_desk.count_dead(conn, ids)
    found = await view_deliveries(conn, ids)
    return [{**view, "dead_letters": dead[parse_id("sub", view["id"])]} for view in found]


def service_in(viewer: Viewer, fields: Fields) -> UUID:
    """The service that a form is about: the viewer's own, whatever it says, or the one that the operator picked.
    Raises `Invalid`, `NotFound`.
    """
    if viewer.service_id is not None:
        return viewer.service_id
    named = given(fields, "service")
    if named is None:
        raise Invalid("Pick the service first.")
    return parse_id("svc", named)
