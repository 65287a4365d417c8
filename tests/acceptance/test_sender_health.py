"""How senders are: what sends, webhooks and checks find out, in the API, in events and in metrics."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from yarl import URL

from hub import check_senders
from hub.app import connect_providers
from hub.workers.health import HealthChecks
from providers.simulator import Business, Number, meta_account
from providers.simulator.meta_nodes import APP_ID
from tests.support.talk import MIA, roster, writes
from tests.support.wire import ask, until
from tests.support.world import NUMBER, Open, Service, World, settings_for

EVENT = "sender.health_changed"


async def health(service: Service, medium: str = "whatsapp") -> dict[str, Any]:
    """What the API says of a sender."""
    (sender,) = [s for s in (await roster(service))["senders"] if s["medium"] == medium]
    assert set(sender) == {"medium", "provider", "is_active", "health"}
    return dict(sender["health"])


def codes(seen: dict[str, Any]) -> list[str]:
    return [problem["code"] for problem in seen["problems"]]


def told(service: Service) -> list[tuple[str, str, list[str], str]]:
    """Every change a service heard of: sender, state before and after, problems."""
    heard = [delivery.data for delivery in service.endpoint.of(EVENT)]
    assert all(set(d) >= {"number", "channel_id", "sender", "health", "previous"} for d in heard)
    return [(d["sender"]["medium"], d["previous"]["state"], codes(d["health"]), d["health"]["state"]) for d in heard]


@asynccontextmanager
async def checks(world: World, tmp_path: Path) -> AsyncIterator[HealthChecks]:
    """Rounds when the test wants them: the hub makes none of itself."""
    connected = await connect_providers(settings_for(world.simulator, None, tmp_path))
    try:
        yield HealthChecks(world.hub.database, {p.name: p for p in connected}, lambda _: None, interval=600)
    finally:
        for provider in connected:
            await provider.close()


async def test_sends_webhooks_and_checks_tell_how_a_sender_is(
    hub_world: World, database_url: str, tmp_path: Path
) -> None:
    world, simulator = hub_world, hub_world.simulator
    crm, shop = await world.connected("crm", "shop")
    number = Number(NUMBER, simulator.numbers[0].phone_number_id)
    business = Business(simulator, simulator.numbers[0])
    conversation = await writes(world.customer(MIA), crm)
    assert await health(crm) == {"state": "ok", "problems": [], "facts": {}, "checked_at": None}

    # A refusal for the token, and a success after it was mended.
    simulator.meta_api.is_revoked = True
    assert (await crm.reply(conversation, "Hello")).status == 202
    await crm.endpoint.hears(EVENT)
    seen = await health(crm)
    assert (seen["state"], codes(seen)) == ("down", ["token_revoked"])
    assert "make new ones" in seen["problems"][0]["detail"]
    assert (await health(crm, "sms"))["state"] == "ok"
    simulator.meta_api.is_revoked = False
    await crm.reply(conversation, "Hello again")
    await crm.endpoint.hears(EVENT, 2)
    assert (await health(crm))["state"] == "ok"
    revoked = ("whatsapp", "ok", ["token_revoked"], "down")
    assert told(crm) == [revoked, ("whatsapp", "down", [], "ok")]

    # Meta's own word: quality, a restriction of the account, and that it is over.
    await business.quality("FLAGGED")
    await business.posts(meta_account.account_banned(number, "DISABLE", at=simulator.ledger.clock()))
    await crm.endpoint.hears(EVENT, 4)
    seen = await health(crm)
    assert (seen["state"], codes(seen)) == ("down", ["account_restricted", "quality_red"])
    assert seen["facts"]["quality"] == "red"
    await business.posts(meta_account.account_banned(number, "REINSTATE", at=simulator.ledger.clock() + 1))
    await crm.endpoint.hears(EVENT, 5)
    assert told(crm)[2:] == [
        ("whatsapp", "ok", ["quality_red"], "degraded"),
        ("whatsapp", "degraded", ["account_restricted", "quality_red"], "down"),
        ("whatsapp", "down", ["quality_red"], "degraded"),
    ]
    await until(lambda: told(shop) == told(crm))

    # Of an account that is nobody's here.
    foreign = Number("+15559990000", "999", waba_id="999000999")
    await Business(simulator, foreign).quality("FLAGGED")
    assert await ask(database_url, "select string_agg(reason, ',') from quarantine") == "unknown_account"
    assert len(told(crm)) == 5

    # A check asks Meta and Twilio.
    async with checks(world, tmp_path) as loop:
        simulator.meta_api.nodes.callback_url = "https://elsewhere.example.com/webhooks/meta"
        await loop.look()
        await crm.endpoint.hears(EVENT, 6)
        seen = await health(crm)
        assert (seen["state"], codes(seen)) == ("degraded", ["webhook_elsewhere"])
        assert seen["checked_at"] is not None
        assert "elsewhere.example.com" not in str(seen)
        full = (await world.call("GET", f"/v1/admin/numbers/{NUMBER}")).json["senders"]
        assert "elsewhere.example.com" in full[0]["health"]["problems"][0]["detail"]
        metrics = (await world.call("GET", "/metrics")).json.decode()
        labels = f'sender="{full[0]["id"]}"'
        assert f'partyline_sender_health{{medium="whatsapp",provider="meta",{labels}}} 1.0' in metrics
        assert f'partyline_sender_problem{{code="webhook_elsewhere",{labels}}} 1.0' in metrics
        assert f'partyline_sender_problem{{code="quality_red",{labels}}} 0.0' in metrics
        settings = settings_for(simulator, None, tmp_path, port=URL(world.hub.url).port)
        listed = await check_senders.list_of_running(settings)  # what `partyline check` asks a hub that runs
        looked = await check_senders.look(settings, listed)
        assert [(each.sender.provider, each.sender.probe.e164, list(each.problems)) for each in looked] == [
            ("meta", NUMBER, ["webhook_elsewhere"]),
            ("twilio", NUMBER, []),
            ("meta", "+15550002222", ["webhook_elsewhere"]),
            ("twilio", "+15550002222", []),
        ]
        simulator.meta_api.is_revoked = True
        simulator.meta_api.nodes.callback_url = None
        await loop.look()
        assert codes(await health(crm)) == ["token_revoked", "webhook_elsewhere"]
        simulator.meta_api.is_revoked = False
        await loop.look()
        seen = await health(crm)
        assert (seen["state"], seen["facts"]["quality"]) == ("ok", "green")


async def test_what_is_missing_and_which_templates_change(open_world: Open, database_url: str) -> None:
    world = await open_world(health_interval=0.1, meta_app_id=APP_ID)
    crm, shop = await world.connected("crm", "shop")
    simulator = world.simulator
    simulator.meta_api.nodes.fields.remove("messages")
    (heard,) = await crm.endpoint.hears(EVENT)
    assert codes(heard.data["health"]) == ["fields_missing"]
    full = (await world.call("GET", f"/v1/admin/numbers/{NUMBER}")).json["senders"][0]["health"]
    assert "the field messages is missing" in full["problems"][0]["detail"]
    simulator.meta_api.nodes.fields.add("messages")
    await crm.endpoint.hears(EVENT, 2)
    assert told(crm) == [("whatsapp", "ok", ["fields_missing"], "degraded"), ("whatsapp", "degraded", [], "ok")]

    business, path = Business(simulator, simulator.numbers[0]), f"/v1/numbers/{NUMBER}/templates"
    template = simulator.templates[0]
    assert (await crm.call("GET", path)).status == 200
    # No webhook has named the account yet: the check has.
    await business.template(template, "PAUSED", reason="LOW_QUALITY")
    for service in (crm, shop):
        (heard,) = await service.endpoint.hears("template.changed")
        assert {k: heard.data[k] for k in ("number", "template", "change", "previous", "current", "reason")} == {
            "number": NUMBER,
            "template": {"external_id": template["id"], "name": template["name"], "language": template["language"]},
            "change": "status",
            "previous": None,
            "current": "paused",
            "reason": "low_quality",
        }
    items = (await crm.call("GET", path)).json["items"]
    assert [i["status"] for i in items if i["id"] == template["id"]] == ["paused"]
    refreshed = "select templates_refreshed_at is not null from sender where provider = 'meta' order by id"
    assert await ask(database_url, refreshed)
    new = {**template, "id": "900000000000099", "name": "brand_new"}
    await business.template(new, "APPROVED")
    await crm.endpoint.hears("template.changed", 2)
    assert not await ask(database_url, refreshed)  # the provider is asked when it is next shown
