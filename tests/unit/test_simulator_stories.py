"""Every named scenario, and a whole day, posted to the providers' routes alone: signed rightly, and all of it read."""

import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
from aiohttp import web

from providers import twilio, whatsapp_cloud
from providers.base import (
    ControlChanged,
    IdentityChanged,
    Item,
    MessageDeleted,
    MessageEdited,
    MessageReceived,
    PreferenceChanged,
    ReactionChanged,
    SenderNotice,
    StatusReported,
    TemplateChanged,
    Unparsed,
    WebhookRequest,
)
from providers.simulator import Customer, Number, Person, Simulator, StatusPlan, people
from providers.simulator.day import Day
from providers.simulator.stories import STORIES, NotPlayableError, Stage, summary
from providers.simulator.traffic import disturbed, packed

META: Final = Number("+15550001111", "1001", waba_id="2001")
OTHER: Final = Number("+15550002222")
PUBLIC_URL: Final = "https://hub.example.com"
SHARED_KEY: Final = "a-shared-key"
PLAYED: Final[dict[str, dict[type[Item], int]]] = {
    "twilio": {MessageReceived: 7},
    "no-phone": {MessageReceived: 4, IdentityChanged: 1},
    "handover": {MessageReceived: 5, ControlChanged: 2},
    "history": {MessageReceived: 20},
    "media": {MessageReceived: 5},
    "statuses": {MessageReceived: 4, StatusReported: 10},
    "identity": {MessageReceived: 5, IdentityChanged: 2},
    "account": {TemplateChanged: 5, SenderNotice: 10},
    "opt-out": {MessageReceived: 5, PreferenceChanged: 2},
    "changes": {MessageReceived: 3, MessageEdited: 1, MessageDeleted: 1, ReactionChanged: 2},
    "kinds": {MessageReceived: 16},
    "outage": {MessageReceived: 10},
}


class Routes:
    """Takes what is signed rightly."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.headers: list[dict[str, str]] = []

    def app(self, routes: list[Any]) -> web.Application:
        app = web.Application()
        for route in routes:
            app.router.add_post(route.path, self._handler(route))
        return app

    def _handler(self, route: Any) -> Any:
        async def take(request: web.Request) -> web.Response:
            headers = {name.lower(): value for name, value in request.headers.items()}
            given = WebhookRequest(request.raw_path, headers, await request.read())
            if not route.verify(given):
                return web.Response(status=403)
            self.headers.append(headers)
            self.items += route.parse(given)
            return web.Response(body=route.answer)

        return take


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(numbers=[META, OTHER], public_url=PUBLIC_URL, status_plan=StatusPlan.none()) as running:
        yield running


@pytest.fixture
async def hub(simulator: Simulator) -> AsyncIterator[Routes]:
    shared: dict[str, Any] = {"timeout": 5, "concurrency": 5, "api_url": simulator.url}
    meta = await whatsapp_cloud.connect(
        app_secrets=simulator.meta_app_secrets, verify_token="", access_token="", **shared
    )
    other = await twilio.connect(
        account_sid=None, auth_tokens=[simulator.twilio_auth_token], public_url=PUBLIC_URL, shared_key=SHARED_KEY,
        **shared,
    )  # fmt: skip
    hub = Routes()
    runner = web.AppRunner(hub.app([*meta.routes, *other.routes]), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    simulator.hub_url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield hub
    await runner.cleanup()
    await meta.close()
    await other.close()


def test_every_story_is_expected_here_documented_and_says_what_it_plays() -> None:
    assert PLAYED.keys() == STORIES.keys()
    documented = (Path(__file__).parents[2] / "docs" / "providers.md").read_text()
    assert [name for name in STORIES if f"| `{name}` |" not in documented] == []
    assert all(summary(story).endswith(".") for story in STORIES.values())


@pytest.mark.parametrize("name", STORIES)
async def test_a_story_is_taken_and_understood(simulator: Simulator, hub: Routes, name: str) -> None:
    stage = Stage(simulator, meta=META, sms=META, twilio_whatsapp=OTHER, has_api=True)
    await STORIES[name](stage)
    assert Counter(type(item) for item in hub.items) == PLAYED[name]
    assert {posted.status for posted in simulator.posted} <= {200, None}


async def test_a_story_needs_its_senders(simulator: Simulator) -> None:
    for name, stage in (("kinds", Stage(simulator)), ("twilio", Stage(simulator, meta=META))):
        with pytest.raises(NotPlayableError):
            await STORIES[name](stage)


async def test_twilio_posts_json_with_its_hash_and_signs_with_a_shared_key(simulator: Simulator, hub: Routes) -> None:
    customer = Customer(simulator, Person(phone="+15552223333", name="Ada"), OTHER, provider="twilio")
    simulator.poster.twilio_json = True
    await customer.says("as JSON")
    simulator.poster.twilio_json, simulator.poster.twilio_shared_key = False, SHARED_KEY
    await customer.says("with a shared key")
    assert [item.content["text"] for item in hub.items if isinstance(item, MessageReceived)] == [
        "as JSON",
        "with a shared key",
    ]
    assert "algorithm=HMAC_SHA256" in hub.headers[1]["x-twilio-webhooks-signature-settings"]


def a_day(simulator: Simulator, count: int) -> Day:
    kinds = ("image/jpeg", "application/pdf")
    files = [simulator.shelf.add(b"file", kind, "file.bin") for kind in kinds]
    return Day(
        seed=3, people=people(3, 200), over_meta=META, over_twilio=OTHER, files=files,
        account_sid=simulator.twilio_account_sid, api_url=simulator.url, start=time.time(),
    )  # fmt: skip


async def test_a_day_is_understood_whole(simulator: Simulator, hub: Routes) -> None:
    items = a_day(simulator, 500).items(500)
    for delivery in packed(1, items):
        if delivery.body is not None:
            await simulator.post_meta(delivery.body)
        elif delivery.form is not None:
            await simulator.post_twilio(delivery.form)
    assert not [item for item in hub.items if isinstance(item, Unparsed)]
    assert len({item.key for item in hub.items}) == len(hub.items) == sum(len(item.parts) for item in items)


async def test_a_disturbed_day_keeps_what_depends_on_each_other_in_order(simulator: Simulator) -> None:
    items = a_day(simulator, 2000).items(2000)
    deliveries = list(packed(1, disturbed(1, items)))
    seen: set[str] = set()
    repeats = 0
    for delivery in deliveries:
        assert delivery.after <= seen
        seen |= {part.id for item in delivery.items for part in item.parts}
        repeats += sum(item.is_repeat for item in delivery.items)
    assert len(seen) == sum(len(item.parts) for item in items)
    assert 0.03 < repeats / len(items) < 0.07
    assert any(len(delivery.items) > 5 for delivery in deliveries)
