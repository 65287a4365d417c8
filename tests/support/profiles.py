"""Steps that tests of profiles share: services that may know of them, and what they say."""

from typing import Any
from urllib.parse import quote
from uuid import UUID

from hub.domain.ids import parse_id
from tests.support.web import WEB
from tests.support.world import Service, World

SHOP: dict[str, Any] = WEB | {"phone_region": "DE"}
"""Settings of a hub that tracks a shop in Germany."""
ANNA, NEW, BEN = "+4915111111111", "+4915199999999", "+4915122222222"
ANNA_MAIL, BEN_MAIL = "anna@example.com", "ben@example.com"
PROFILES = ["read", "reply", "automate", "profiles"]


async def opens(world: World, name: str = "shop", scopes: list[str] = PROFILES) -> Service:
    """A service that is connected and may know of profiles."""
    made = await world.service(name, scopes=scopes)
    await made.connect()
    return made


async def says(service: Service, **said: Any) -> dict[str, Any]:
    """Identify; it must work."""
    answer = await service.call("POST", "/v1/identify", said)
    assert answer.status == 200, answer
    return dict(answer.json)


async def status(service: Service, medium: str, address: str) -> str:
    """What holds."""
    answer = await service.call("GET", f"/v1/consents/{medium}/{quote(address)}")
    assert answer.status == 200, answer
    return str(answer.json["status"])


def id_of(answer: dict[str, Any]) -> UUID:
    return parse_id("con", answer["contact"]["id"])


def addresses(answer: dict[str, Any]) -> set[str]:
    return {address["value"] for address in answer["contact"]["addresses"]}
