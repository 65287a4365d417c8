"""The list of templates: read from the providers, kept for a while, and heeded when one is sent (rules E5, E10)."""

import asyncio
from types import SimpleNamespace
from typing import Any

from hub.http.templates import TemplateDesk
from hub.store.templates import list_senders
from providers.simulator import Fault
from providers.whatsapp_cloud.provider import connect
from tests.support.talk import MIA, pages, timeline, writes
from tests.support.wire import ask
from tests.support.world import NUMBER, Answer, Service, World

PATH = f"/v1/numbers/{NUMBER}/templates"
OLDER = "update sender set templates_refreshed_at = templates_refreshed_at - make_interval(secs => $1)"


async def listed(service: Service, query: str = "") -> dict[str, Any]:
    """The answer, which must be good."""
    answer = await service.call("GET", PATH + query)
    assert answer.status == 200, answer
    return dict(answer.json)


async def post(service: Service, conversation: str, template: dict[str, Any], **more: Any) -> Answer:
    """An agent sends a template."""
    body = {"origin": "agent", "agent": {"id": "7"}, "type": "template", "template": template, **more}
    return await service.call("POST", f"/v1/conversations/{conversation}/messages", body)


def template(name: str, status: str = "APPROVED", number: int = 7) -> dict[str, Any]:
    """A template as Graph lists it."""
    made = {"name": name, "language": "en", "status": status, "category": "UTILITY", "id": str(number)}
    return {**made, "components": [{"type": "BODY", "text": "Hello"}]}


async def test_e10_the_list_is_the_providers_own(hub_world: World, database_url: str) -> None:
    (crm,) = await hub_world.connected("crm")
    sid = hub_world.simulator.twilio_api.extras.add_content("hello", language="de", variables={"1": "you"})
    found = await listed(crm)
    assert (found["stale"], found["next"]) == (False, None)
    assert found["refreshed_at"] is not None
    senders = [{"medium": "whatsapp", "provider": "meta"}, {"medium": "sms", "provider": "twilio"}]
    assert [{k: s[k] for k in ("medium", "provider", "stale", "error")} for s in found["senders"]] == [
        sender | {"stale": False, "error": None} for sender in senders
    ]
    by_name = {item["name"]: item for item in found["items"]}
    assert by_name["order_update"] == {
        "sender": senders[0],
        "id": "900000000000001",
        "name": "order_update",
        "language": "en",
        "category": "utility",
        "status": "approved",
        "content": {"components": hub_world.simulator.templates[0]["components"]},
    }
    assert (by_name["lottery"]["status"], by_name["spring_sale"]["category"]) == ("rejected", "marketing")
    assert by_name["hello"]["sender"] == senders[1]
    assert (by_name["hello"]["id"], by_name["hello"]["language"]) == (sid, "de")
    assert by_name["hello"]["content"]["variables"] == {"1": "you"}
    every = await pages(lambda path: crm.call("GET", path), f"{PATH}?limit=1")
    assert every == found["items"]
    assert [item["name"] for item in (await listed(crm, "?medium=sms"))["items"]] == ["hello"]

    # Kept for ten minutes, or for one if somebody asks.
    hub_world.simulator.templates = [template("fresh")]
    assert (await listed(crm, "?refresh=true"))["items"] == found["items"]
    await ask(database_url, OLDER, 61)
    assert (await listed(crm))["items"] == found["items"]
    answers = await asyncio.gather(*(listed(crm, "?refresh=true&medium=whatsapp") for _ in range(4)))
    assert [[item["name"] for item in answer["items"]] for answer in answers] == [["fresh"]] * 4
    assert len({answer["refreshed_at"] for answer in answers}) == 1  # one asked for all of them
    hub_world.simulator.templates = []
    await ask(database_url, OLDER, 601)
    assert [item["name"] for item in (await listed(crm))["items"]] == ["hello"]

    for query in ("?refresh=1", "?medium=fax", "?after=x", "?after=1.", "?after=%D9%A3.x", "?limit=0"):
        answer = await crm.call("GET", PATH + query)
        assert (answer.status, answer.json["code"]) == (422, "invalid_request"), query
    stranger = await hub_world.service("stranger")
    assert (await stranger.call("GET", PATH)).json["code"] == "not_connected"
    assert (await stranger.call("GET", "/v1/numbers/+15559990000/templates")).status == 404


async def test_e10_a_provider_that_cannot_be_asked(hub_world: World, database_url: str) -> None:
    (crm,) = await hub_world.connected("crm")
    simulator, query = hub_world.simulator, "?medium=whatsapp&refresh=true"
    for fault, status, code, reason in (
        (Fault.bare(502), 503, "provider_unavailable", "bare_error"),
        (Fault.refused(190, status=401), 502, "provider_refused", "token_revoked"),
    ):
        simulator.fail_next_asked(fault)
        answer = await crm.call("GET", PATH + query)
        assert (answer.status, answer.json["code"], answer.json["reason"]) == (status, code, reason), answer
        assert "(rule E10)" in answer.json["detail"]
    assert (await listed(crm, "?medium=sms"))["items"] == []

    whole = await listed(crm, query)
    assert (len(whole["items"]), whole["stale"]) == (3, False)
    await ask(database_url, OLDER, 3600)
    simulator.fail_next_asked(Fault.refused(190, status=401))
    simulator.templates = []
    stale = await listed(crm, query)
    assert (stale["stale"], stale["items"]) == (True, whole["items"])
    (sender,) = stale["senders"]
    assert (sender["stale"], sender["error"]["code"], sender["error"]["reason"]) == (
        True,
        "provider_refused",
        "token_revoked",
    )
    assert stale["refreshed_at"] < whole["refreshed_at"]
    # A minute's rest for the provider, whoever asks.
    assert await listed(crm, query) == stale


async def test_e10_who_waits_for_a_provider_in_vain_waits_once(hub_world: World, database_url: str) -> None:
    simulator, database = hub_world.simulator, hub_world.hub.database
    token = simulator.meta_access_token
    meta = await connect(
        app_secrets=[], verify_token=None, access_token=token, api_url=simulator.url, timeout=10, concurrency=5
    )
    context: Any = SimpleNamespace(database=database, providers={"meta": meta})
    async with database.reading() as conn:
        sender = (await list_senders(conn, await ask(database_url, "select id from number where e164 = $1", NUMBER)))[0]
    desk = TemplateDesk()
    simulator.fail_next_asked(Fault.bare(502))
    refusals = await asyncio.gather(*(desk.refresh(context, sender, is_asked=False) for _ in range(20)))
    assert {refusal and refusal.code for refusal in refusals} == {"provider_unavailable"}
    assert await desk.refresh(context, sender, is_asked=False) is None  # without a list, the next may ask at once
    await meta.close()


async def test_e10_what_the_list_says_of_a_template_is_heeded(hub_world: World, database_url: str) -> None:
    helpdesk, crm = await hub_world.connected("helpdesk", "crm")
    customer = hub_world.customer(MIA)
    conversation = await writes(customer, helpdesk, crm)
    unknown = await post(crm, conversation, {"name": "lottery", "language": "en"})
    assert unknown.status == 202  # nobody has read the list yet: Meta decides
    await listed(crm)
    refused = await post(crm, conversation, {"name": "lottery", "language": "en"})
    assert (refused.status, refused.json["code"]) == (422, "template_unavailable")
    assert refused.json["template_status"] == "rejected"
    assert "(rule E10)" in refused.json["detail"]
    assert (await post(crm, conversation, {"name": "unheard_of", "language": "en"})).status == 202
    # A refusal may be over by now, and nobody has read the list since: Meta decides. What it is stays as it was.
    await ask(database_url, OLDER, 3601)
    assert (await post(crm, conversation, {"name": "lottery", "language": "en"})).status == 202

    wanted = {"name": "spring_sale", "language": "en"}
    sent = await post(crm, conversation, wanted)
    assert sent.json["message"]["template"] == {**wanted, "category": "marketing"}
    assert (await customer.hears()).body["template"] == {"name": "spring_sale", "language": {"code": "en"}}
    await customer.prefers_marketing(False)
    stopped = await post(crm, conversation, wanted)
    assert (stopped.status, stopped.json["code"]) == (409, "no_consent")
    parameters = [{"type": "body", "parameters": [{"type": "text", "text": "7"}]}]
    useful = await post(crm, conversation, {"name": "order_update", "language": "en", "components": parameters})
    assert useful.status == 202
    assert (await customer.hears()).text == "Your order 7 is on its way."


async def test_e4_outside_the_window_only_templates_go(hub_world: World, database_url: str) -> None:
    (helpdesk,) = await hub_world.connected("helpdesk")
    customer = hub_world.customer(MIA)
    conversation = await writes(customer, helpdesk)
    await ask(database_url, "update conversation set last_customer_at = now() - interval '25 hours'")
    (asked,) = await timeline(helpdesk, conversation)
    bodies: tuple[dict[str, Any], ...] = (
        {"type": "text", "text": "x"},
        {"type": "image", "media": {"url": "https://x.org/a.png"}},
        {"type": "location", "location": {"latitude": 1, "longitude": 1}},
        {"type": "reaction", "reaction": {"message_id": asked["id"], "emoji": "👍"}},
    )
    for fields in bodies:
        answer = await helpdesk.call(
            "POST", f"/v1/conversations/{conversation}/messages", {"origin": "chatbot", **fields}
        )
        assert (answer.status, answer.json["code"]) == (409, "reply_window_closed"), fields
    assert (await post(helpdesk, conversation, {"name": "order_update", "language": "en"})).status == 202
