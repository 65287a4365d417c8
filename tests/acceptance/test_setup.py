"""Set-up as docs/setup*.md tell it, against a hub: the calls are taken as they stand there, the second door of Twilio's
webhook takes a message once, and the overrides behind `#` are nobody's fault.
"""

import json
import re
from pathlib import Path
from typing import Any

from providers.checking import is_same_address
from tests.support.wire import Wire, sms
from tests.support.world import NUMBER, World

DOCS = Path(__file__).parents[2] / "docs"


def bodies(page: str) -> list[dict[str, Any]]:
    """The bodies that a page sends to the hub, in order."""
    text = (DOCS / page).read_text()
    return [json.loads(body) for body in re.findall(r"\$HUB/v1.*?-d '(\{.*?\})'", text, re.DOTALL)]


async def test_numbers_and_services_are_set_up_by_the_calls_of_the_pages(hub_world: World) -> None:
    """Meta's number, Twilio's, a service, its connection, a consent with its evidence."""
    for page in ("setup-meta.md", "setup-twilio.md"):
        (number,) = bodies(page)
        if number["e164"] == NUMBER:  # this hub has it already: as another one
            number = json.loads(json.dumps(number).replace(NUMBER, "+15550003333"))
        number = json.loads(json.dumps(number).replace("100000000000001", "100000000000009"))
        answer = await hub_world.call("POST", "/v1/admin/numbers", number)
        assert answer.status == 201, answer
    wanted, connection = bodies("setup.md")
    made = await hub_world.call("POST", "/v1/admin/services", wanted)
    assert made.status == 201, made
    key = made.json["api_key"]
    path = "/v1/numbers/+4930123456/connection"
    joined = await hub_world.call("PUT", path, connection, key=key)
    assert (joined.status, joined.json["role"]) == (200, "parent")
    assert joined.json["signing_secret"].startswith("whsec_")
    path, body = re.findall(r"`PUT (/v1/consents\S+)` `(\{.*?\})`|$", (DOCS / "setup.md").read_text())[0]
    consent = await hub_world.call("PUT", path, json.loads(body), key=key)
    assert (consent.status, consent.json["status"]) == (200, "granted")


async def test_b4_the_fallback_url_takes_a_message_once(hub_world: World) -> None:
    """Twilio adds what went wrong at the first door, and signs the address of the second."""
    text = (DOCS / "setup-twilio.md").read_text()
    door = re.findall(r"`https://hub\.example\.com(/webhooks/twilio\?\S+)`", text)[0]
    (helpdesk,) = await hub_world.connected("helpdesk")
    form = sms("Hello by the second door")
    again = [*form, ("ErrorCode", "11200"), ("ErrorUrl", "https://hub.example.com/webhooks/twilio")]
    wire = Wire(hub_world)
    assert (await wire.twilio(again, path=door)).status == 200
    assert (await wire.twilio(form)).status == 200
    assert (await wire.twilio(sms("Another"))).status == 200
    heard = await helpdesk.endpoint.hears("message.received", 2)
    assert [event.data["message"]["text"] for event in heard] == ["Hello by the second door", "Another"]


def test_overrides_behind_the_address_are_not_taken_for_another_one() -> None:
    text = (DOCS / "setup-twilio.md").read_text()
    (entered,) = re.findall(r"`(https://hub\.example\.com/webhooks/twilio#\S+)`", text)
    assert is_same_address(entered, "https://hub.example.com/webhooks/twilio")
    given = dict(pair.split("=") for pair in entered.split("#")[1].split("&"))
    assert 0 <= int(given["rc"]) <= 5
    assert 100 <= int(given["rt"]) <= int(given["tt"]) <= 15_000
    assert given["rp"] in {"4xx", "5xx", "ct", "rt", "all"}
