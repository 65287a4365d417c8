"""The operator's hand on a number: who is parent, who is removed, what is shared by default, which keys and senders
there are (rules A1, A3, A5, A6, A8, C2, H3); and what holds when much of it happens at once.
"""

import asyncio
import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any

from hub.domain.ids import parse_id
from tests.support.talk import (
    MIA,
    audit,
    automates,
    ends,
    leaves,
    operator_events,
    pages,
    revealed_events,
    roster,
    timeline,
    writes,
)
from tests.support.wire import ask, connected
from tests.support.world import NUMBER, Answer, Service, World

OTHER = "+15550002222"
NOBODY = "svc_" + "0" * 32


async def hands_over(world: World, heir: str, note: str | None = None, number: str = NUMBER) -> Answer:
    """The operator makes somebody the parent."""
    body = {"service_id": heir} | ({"note": note} if note is not None else {})
    return await world.call("PUT", f"/v1/admin/numbers/{number}/parent", body)


async def number_view(world: World, number: str = NUMBER) -> dict[str, Any]:
    """A number as the operator sees it."""
    answer = await world.call("GET", f"/v1/admin/numbers/{number}")
    assert answer.status == 200, answer
    return dict(answer.json)


async def parent_changes(world: World, channel: str) -> list[dict[str, Any]]:
    """Every change of a channel's parent so far."""
    events = await operator_events(world, "channel.parent_changed")
    return [event["data"] for event in events if event["data"]["channel_id"] == channel]


async def test_a6_parenthood_is_handed_over_and_back_and_nobody_leaves(hub_world: World, database_url: str) -> None:
    helpdesk, crm, marketing = await hub_world.connected("helpdesk", "crm", "marketing")
    customer, simulator = hub_world.customer(MIA), hub_world.simulator
    conversation = await writes(customer, helpdesk, crm, marketing)
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    simulator.hold()
    accepted = [
        await crm.reply(conversation, "1 crm's agent, with the provider"),
        await automates(helpdesk, conversation, "2 helpdesk's bot"),
        await helpdesk.reply(conversation, "3 helpdesk's agent"),
        await automates(helpdesk, conversation, "4 helpdesk's workflow", "workflow"),
        await automates(helpdesk, conversation, "tomorrow", "scheduled", send_at=tomorrow.isoformat()),
    ]
    assert [answer.status for answer in accepted] == [202] * 5
    ids = [answer.json["message"]["id"] for answer in accepted]
    await simulator.wait_for(lambda: simulator.in_flight == 1)

    handed = await hands_over(hub_world, crm.id, "Crm has the night shift")
    assert handed.status == 200, handed
    assert (handed.json["parent"]["service_id"], handed.json["parent_epoch"]) == (crm.id, 2)
    members = [(member["service_id"], member["role"]) for member in handed.json["subscribers"]]
    assert members == [(helpdesk.id, "subscriber"), (crm.id, "parent"), (marketing.id, "subscriber")]
    for service in (helpdesk, crm, marketing):
        changed = (await service.endpoint.hears("channel.parent_changed", 2 if service is helpdesk else 1))[-1].data
        assert changed["parent"] == (await roster(service))["parent"] == handed.json["parent"]
        assert changed["previous"] == {"id": helpdesk.id, "name": "helpdesk"}
        assert (changed["reason"], changed["note"]) == ("handed_over", "Crm has the night shift")
        assert changed["automation"] == {"allowed": service is crm, "parent_epoch": 2}
        for bot in (ids[1], *ids[3:]):
            await ends(service, bot, "cancelled")
    assert (await ends(helpdesk, ids[1], "cancelled"))["error"]["code"] == "not_parent"
    assert helpdesk.endpoint.of("service.disconnected") == []
    transactions = await ask(
        database_url,
        """select count(distinct xmin::text) from event
           where type = 'message.status' and data like '%"cancelled"%'
              or type = 'channel.parent_changed' and data like '%"handed_over"%'""",
    )
    assert transactions == 1
    late = await automates(helpdesk, conversation, "no")
    assert (late.status, late.json["code"], late.json["parent"]["service_id"]) == (409, "not_parent", crm.id)

    bot = (await automates(crm, conversation, "5 crm's bot", parent_epoch=2)).json["message"]["id"]
    back = await hands_over(hub_world, helpdesk.id)
    assert (back.json["parent"]["service_id"], back.json["parent_epoch"]) == (helpdesk.id, 3)
    await ends(marketing, bot, "cancelled")
    assert (await automates(helpdesk, conversation, "6 of the old epoch", parent_epoch=1)).json["code"] == "not_parent"
    assert (await automates(helpdesk, conversation, "6 helpdesk's bot", parent_epoch=3)).status == 202
    again = await hands_over(hub_world, helpdesk.id, "once more")
    assert (again.status, again.json) == (200, back.json)

    simulator.release()
    texts = [(await customer.hears()).text for _ in range(3)]
    assert texts == ["1 crm's agent, with the provider", "3 helpdesk's agent", "6 helpdesk's bot"]
    assert len(simulator.attempts) == 3

    channel = helpdesk.connection["channel_id"]
    changes = await parent_changes(hub_world, channel)
    assert [(change["parent"]["epoch"], change["reason"]) for change in changes] == [
        (1, "connected"),
        (2, "handed_over"),
        (3, "handed_over"),
    ]
    rows = [row for row in await audit(hub_world) if row["action"] == "channel.parent_changed"]
    assert (rows[0]["actor"], rows[0]["details"]) == (
        helpdesk.id,
        {"parent": helpdesk.id, "previous": None, "epoch": 1, "reason": "connected"},
    )
    assert [(row["actor"], row["channel_id"], row["details"]) for row in rows[1:]] == [
        (
            "operator",
            channel,
            {"parent": parent, "previous": old, "epoch": epoch, "reason": "handed_over", "note": note},
        )
        for parent, old, epoch, note in (
            (crm.id, helpdesk.id, 2, "Crm has the night shift"),
            (helpdesk.id, crm.id, 3, None),
        )
    ]

    await hands_over(hub_world, marketing.id)
    await leaves(marketing)
    view = await roster(crm)
    assert (view["parent"]["service_id"], view["parent"]["epoch"]) == (helpdesk.id, 5)


async def test_a6_who_cannot_be_parent_is_not_made_it(hub_world: World) -> None:
    helpdesk, gone = await hub_world.connected("helpdesk", "gone")
    (own,) = await hub_world.connected("own", plan="standalone")
    stranger = await hub_world.service("stranger")
    assert (await hub_world.call("DELETE", f"/v1/admin/services/{gone.id}")).status == 204
    for heir, number, status, code in (
        (stranger.id, NUMBER, 409, "not_connected"),
        (helpdesk.id, OTHER, 409, "not_connected"),
        (own.id, NUMBER, 409, "standalone_channel"),
        (gone.id, NUMBER, 404, "not_found"),
        (NOBODY, NUMBER, 404, "not_found"),
        ("nonsense", NUMBER, 404, "not_found"),
        (helpdesk.id, "+15559999999", 404, "not_found"),
    ):
        answer = await hands_over(hub_world, heir, number=number)
        assert (answer.status, answer.json["code"]) == (status, code), (heir, number, answer)
    for body in ({}, {"service_id": helpdesk.id, "note": "x" * 1001}, {"service_id": 7}, {"service": helpdesk.id}):
        answer = await hub_world.call("PUT", f"/v1/admin/numbers/{NUMBER}/parent", body)
        assert (answer.status, answer.json["code"]) == (422, "invalid_request"), (body, answer)
    answer = await helpdesk.call("PUT", f"/v1/admin/numbers/{NUMBER}/parent", {"service_id": helpdesk.id})
    assert (answer.status, answer.json["code"]) == (403, "operator_only")
    assert [change["reason"] for change in await parent_changes(hub_world, helpdesk.connection["channel_id"])] == [
        "connected"
    ]
    assert (await roster(helpdesk))["parent"]["epoch"] == 1


async def test_a5_the_operator_removes_the_parent_in_the_middle_of_a_conversation(hub_world: World) -> None:
    helpdesk, crm, marketing = await hub_world.connected("helpdesk", "crm", "marketing")
    customer, simulator = hub_world.customer(MIA), hub_world.simulator
    conversation = await writes(customer, helpdesk, crm, marketing)
    held = await helpdesk.call(
        "POST", f"/v1/conversations/{conversation}/pickup", {"agent": {"id": "agent-Ana", "name": "Ana"}}
    )
    assert held.status == 200, held
    simulator.hold()
    first = (await crm.reply(conversation, "1 crm's agent")).json["message"]["id"]
    bot = (await automates(helpdesk, conversation, "2 bot")).json["message"]["id"]
    reply = (await helpdesk.reply(conversation, "3 helpdesk's agent")).json["message"]["id"]
    await simulator.wait_for(lambda: simulator.in_flight == 1)
    path = f"/v1/admin/services/{helpdesk.id}/numbers/{NUMBER}"
    assert (await hub_world.call("DELETE", path)).status == 204

    (left,) = await marketing.endpoint.hears("service.disconnected")
    assert (left.data["service"]["id"], left.data["reason"]) == (helpdesk.id, "operator")
    (changed,) = await marketing.endpoint.hears("channel.parent_changed")
    assert (changed.data["parent"]["service_id"], changed.data["reason"]) == (crm.id, "removed")
    (released,) = await marketing.endpoint.hears("conversation.released")
    assert (released.data["reason"], released.data["pickup"]["service"]["id"]) == ("disconnected", helpdesk.id)
    await ends(marketing, bot, "cancelled")
    simulator.release()
    assert [(await customer.hears()).text for _ in range(2)] == ["1 crm's agent", "3 helpdesk's agent"]
    for message in (first, reply):
        await ends(marketing, message, "read")
    told = [d.data["conversation"]["sequence"] for d in marketing.endpoint.deliveries if "conversation" in d.data]
    assert told == list(range(1, len(told) + 1))
    assert (await helpdesk.call("GET", f"/v1/conversations/{conversation}")).status == 404
    again = await hub_world.call("DELETE", path)
    assert (again.status, again.json["code"]) == (409, "not_connected")
    for gone in (f"{NOBODY}/numbers/{NUMBER}", f"{helpdesk.id}/numbers/{NUMBER}9"):
        assert (await hub_world.call("DELETE", f"/v1/admin/services/{gone}")).status == 404
    row = [row for row in await audit(hub_world) if row["action"] == "service.disconnected"][-1]
    assert (row["actor"], row["details"]) == ("operator", {"service": helpdesk.id, "reason": "operator"})

    await helpdesk.connect()
    assert (helpdesk.connection["role"], helpdesk.connection["parent_epoch"]) == ("subscriber", 2)


async def test_a5_the_operator_removes_a_service_altogether(hub_world: World, database_url: str) -> None:
    crm, helpdesk = await hub_world.connected("crm", "helpdesk")
    elsewhere = await crm.call("PUT", f"/v1/numbers/{OTHER}/connection", {})
    second = (await hub_world.call("POST", f"/v1/admin/services/{crm.id}/keys")).json["api_key"]
    customer = hub_world.customer(MIA)
    conversation = await writes(customer, crm, helpdesk)
    sent = (await crm.reply(conversation, "From crm")).json["message"]["id"]
    await ends(helpdesk, sent, "read")
    heard = len(crm.endpoint.deliveries)
    assert (await hub_world.call("DELETE", f"/v1/admin/services/{crm.id}")).status == 204

    (changed,) = await helpdesk.endpoint.hears("channel.parent_changed")
    assert (changed.data["parent"]["service_id"], changed.data["previous"]["id"]) == (helpdesk.id, crm.id)
    (unrouted,) = await operator_events(hub_world, "channel.unrouted")
    assert unrouted["data"]["channel_id"] == elsewhere.json["channel_id"]
    for key in (crm.key, second):
        answer = await hub_world.call("GET", "/v1/numbers", key=key)
        assert (answer.status, answer.json["code"]) == (401, "unauthorized")
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/keys"), ("POST", "/keys"), ("PATCH", "")):
        answer = await hub_world.call(method, f"/v1/admin/services/{crm.id}{path}", {} if method == "PATCH" else None)
        assert (answer.status, answer.json["code"]) == (404, "not_found"), (method, path)
    listed = await pages(lambda path: hub_world.call("GET", path), "/v1/admin/services?limit=1")
    assert [item["id"] for item in listed] == [helpdesk.id]
    assert await ask(database_url, "select count(*) from subscription where disconnected_at is null") == 1

    await writes(customer, helpdesk, text="Still there?")
    assert len(crm.endpoint.deliveries) == heard
    messages = await timeline(helpdesk, conversation)
    assert [message["author"] and message["author"]["name"] for message in messages] == [None, "crm", None]
    rows = {row["action"]: row for row in await audit(hub_world)}
    assert rows["service.removed"]["subject"] == "crm"
    assert rows["service.removed"]["details"] == {"service": crm.id, "numbers": [NUMBER, OTHER]}


async def test_c2_the_operator_sets_what_is_shared_by_default(hub_world: World, database_url: str) -> None:
    helpdesk, crm = await hub_world.service("helpdesk"), await hub_world.service("crm")
    marketing, own = await hub_world.service("marketing"), await hub_world.service("own", plan="standalone")
    await helpdesk.connect()
    await crm.connect(display="full", event_types=["message.queued", "message.received"])
    await marketing.connect(share="none", display="full")
    await own.connect()
    shown = {
        service.name: {name: service.connection[name] for name in ("display", "share", "effective_share")}
        for service in (helpdesk, crm, marketing, own)
    }
    assert shown == {
        "helpdesk": {"display": "masked", "share": None, "effective_share": "none"},
        "crm": {"display": "full", "share": None, "effective_share": "none"},
        "marketing": {"display": "full", "share": "none", "effective_share": "none"},
        "own": {"display": "masked", "share": None, "effective_share": "none"},
    }
    assert crm.connection["event_types"] == ["message.queued", "message.received"]
    assert crm.connection["endpoint_url"] == crm.endpoint.url
    assert crm.endpoint.url not in str(await roster(helpdesk))

    customer = hub_world.customer(MIA)
    conversation = await writes(customer, helpdesk, crm, marketing)
    changed = await hub_world.call("PATCH", f"/v1/admin/numbers/{NUMBER}", {"default_share": "all"})
    assert (changed.status, changed.json["default_share"]) == (200, "all")
    assert changed.json == await number_view(hub_world)
    shared, apart = changed.json["channels"]
    assert [(m["name"], m["share"], m["effective_share"]) for m in shared["subscribers"]] == [
        ("helpdesk", None, "all"),
        ("crm", None, "all"),
        ("marketing", "none", "none"),
    ]
    assert (apart["owner_service_id"], apart["subscribers"][0]["effective_share"]) == (own.id, "none")
    assert (await roster(helpdesk))["effective_share"] == "all"
    await helpdesk.reply(conversation, "shared by default")
    await marketing.reply(conversation, "kept")
    seen = [d.data["message"].get("text") for d in await crm.endpoint.hears("message.queued", 2)]
    assert seen == ["shared by default", None]

    await helpdesk.connect(share=[marketing.id])
    assert helpdesk.connection["share"] == helpdesk.connection["effective_share"] == [marketing.id]
    await helpdesk.connect(share=[marketing.id])
    for body in ({}, {"default_share": "all"}, {"default_share": None}):
        assert (await hub_world.call("PATCH", f"/v1/admin/numbers/{NUMBER}", body)).status == 200
    assert (await hub_world.call("PATCH", f"/v1/admin/numbers/{NUMBER}", {"default_share": "none"})).status == 200
    assert (await roster(crm))["effective_share"] == "none"
    async with connected(database_url) as conn:
        rows = await conn.fetch(
            """select s.name, v.display, v.share, cardinality(v.share_with) as named
               from visibility v join service s on s.id = v.service_id order by v.id"""
        )
    assert [tuple(row) for row in rows] == [
        ("helpdesk", "masked", "none", 0),
        ("crm", "full", "none", 0),
        ("marketing", "full", "none", 0),
        ("own", "masked", "none", 0),
        ("helpdesk", "masked", "all", 0),
        ("crm", "full", "all", 0),
        ("helpdesk", "masked", "named", 1),
        ("crm", "full", "none", 0),
    ]
    for body in ({"default_share": "named"}, {"standalone_may_automate": "perhaps"}, {"share": "all"}):
        answer = await hub_world.call("PATCH", f"/v1/admin/numbers/{NUMBER}", body)
        assert (answer.status, answer.json["code"]) == (422, "invalid_request"), body
    assert (await hub_world.call("PATCH", "/v1/admin/numbers/+15559999999", {})).status == 404
    assert (await hub_world.call("GET", "/v1/admin/numbers/+15559999999")).status == 404
    details = [row["details"] for row in await audit(hub_world) if row["action"] == "number.changed"]
    assert details == [{"default_share": "all"}, {"default_share": "none"}]


async def test_a3_the_operator_may_let_standalone_services_automate(hub_world: World) -> None:
    (helpdesk,) = await hub_world.connected("helpdesk")
    (own,) = await hub_world.connected("own", plan="standalone")
    customer = hub_world.customer(MIA)
    mine = await writes(customer, own, helpdesk)
    refused = await automates(own, mine, "robot")
    assert (refused.status, refused.json["code"]) == (409, "number_shared")
    body = {"standalone_may_automate": True}
    assert (await hub_world.call("PATCH", f"/v1/admin/numbers/{NUMBER}", body)).json["standalone_may_automate"] is True
    await writes(customer, own, helpdesk, text="And now?")
    assert [d.data["automation"]["allowed"] for d in own.endpoint.of("message.received")] == [False, True]
    assert (await automates(own, mine, "robot")).status == 202
    assert (await customer.hears()).text == "robot"
    assert helpdesk.endpoint.of("message.queued") == []

    hub_world.simulator.hold()
    await own.reply(mine, "with the provider")
    waiting = (await automates(own, mine, "never sent")).json["message"]["id"]
    await hub_world.simulator.wait_for(lambda: hub_world.simulator.in_flight == 1)
    await leaves(own)
    told = [e["data"]["message"] for e in await revealed_events(hub_world, "message.status")]
    assert [m["error"]["code"] for m in told if m["id"] == waiting and m["status"] == "cancelled"] == ["not_connected"]
    hub_world.simulator.release()
    await own.connect()
    body = {"standalone_may_automate": False}
    assert (await hub_world.call("PATCH", f"/v1/admin/numbers/{NUMBER}", body)).status == 200
    assert (await automates(own, mine, "robot")).json["code"] == "number_shared"


async def test_h3_a_service_has_several_keys_and_can_be_changed(hub_world: World) -> None:
    (crm,) = await hub_world.connected("crm")
    path = f"/v1/admin/services/{crm.id}"
    made = await hub_world.call("POST", f"{path}/keys")
    assert made.status == 201, made
    key = made.json["api_key"]
    assert key.startswith("plk_")
    assert made.json["hint"] == key[-4:]
    listed = (await pages(lambda path: hub_world.call("GET", path), f"{path}/keys?limit=1"))[-1]
    assert listed == {name: made.json[name] for name in ("id", "hint", "created_at")}
    both = await pages(lambda path: hub_world.call("GET", path), f"{path}/keys")
    assert [entry["hint"] for entry in both] == [crm.key[-4:], key[-4:]]
    for own in (crm.key, key):
        assert (await hub_world.call("GET", "/v1/numbers", key=own)).status == 200
    stranger = await hub_world.service("stranger")
    for missing in (f"{stranger.id}/keys/{both[0]['id']}", f"{crm.id}/keys/key_{'0' * 32}", f"{crm.id}/keys/x"):
        answer = await hub_world.call("DELETE", f"/v1/admin/services/{missing}")
        assert (answer.status, answer.json["code"]) == (404, "not_found"), missing
    assert (await hub_world.call("DELETE", f"{path}/keys/{both[0]['id']}")).status == 204
    assert (await hub_world.call("DELETE", f"{path}/keys/{both[0]['id']}")).status == 404
    assert [(await hub_world.call("GET", "/v1/numbers", key=own)).status for own in (crm.key, key)] == [401, 200]
    assert [entry["id"] for entry in (await hub_world.call("GET", f"{path}/keys")).json["items"]] == [made.json["id"]]
    crm.key = key

    wanted = {"name": "CRM", "plan": "standalone", "product": "x", "scopes": ["reply", "read", "read"]}
    changed = await hub_world.call("PATCH", path, wanted)
    assert (changed.status, changed.json["scopes"]) == (200, ["read", "reply"])
    assert {name: changed.json[name] for name in ("name", "plan", "product")} == {
        "name": "CRM", "plan": "standalone", "product": "x",
    }  # fmt: skip
    assert changed.json["upgraded_from_standalone"] is False
    assert (await hub_world.call("PATCH", path, {"product": None})).json["product"] is None
    assert (await hub_world.call("PATCH", path, {})).json["name"] == "CRM"
    for body in ({"name": ""}, {"name": None}, {"scopes": ["all"]}, {"scopes": None}, {"plan": 7}, {"id": "svc_1"}):
        answer = await hub_world.call("PATCH", path, body)
        assert (answer.status, answer.json["code"]) == (422, "invalid_request"), body
    # Judged at connect: it stays where it is until it connects anew (A3).
    assert (await roster(crm))["role"] == "parent"
    await crm.connect()
    assert crm.connection["role"] == "parent"
    await leaves(crm)
    await crm.connect()
    assert crm.connection["role"] == "standalone"
    rows = [(row["action"], row["subject"], set(row["details"])) for row in await audit(hub_world)]
    assert [row for row in rows if row[0].startswith("key.")] == [
        ("key.added", "crm", {"service", "key"}),
        ("key.revoked", "crm", {"service", "key"}),
    ]
    assert [row for row in rows if row[0] == "service.changed"] == [
        ("service.changed", "crm", {"service", "name", "plan", "product", "scopes"}),
        ("service.changed", "CRM", {"service", "product"}),
    ]


def sender(provider: str, external_id: str, medium: str = "whatsapp", **more: Any) -> dict[str, Any]:
    """A sender as the operator registers it."""
    return {"medium": medium, "provider": provider, "external_id": external_id, **more}


async def test_a1_senders_are_added_replaced_and_changed(hub_world: World) -> None:
    number = "+15550003333"
    path = f"/v1/admin/numbers/{number}"
    senders = [sender("twilio", number, rate=0.1), sender("twilio", number, "sms")]
    made = await hub_world.call("POST", "/v1/admin/numbers", {"e164": number, "senders": senders})
    assert made.status == 201, made
    assert made.json["senders"] == [
        {**senders[0], "account": None},
        {**senders[1], "rate": None, "account": None},
    ]
    moved = await hub_world.call("POST", f"{path}/senders", sender("meta", "300", rate=80, account="1234567890"))
    assert moved.status == 201, moved
    known = {"id": moved.json["id"], "health": {"state": "ok", "problems": [], "facts": {}, "checked_at": None}}
    assert moved.json == sender("meta", "300", rate=80, account="1234567890") | {"is_active": True} | known
    view = await number_view(hub_world, number)
    assert [(s["medium"], s["provider"], s["is_active"], s["rate"]) for s in view["senders"]] == [
        ("whatsapp", "twilio", False, 0.1),
        ("sms", "twilio", True, None),
        ("whatsapp", "meta", True, 80),
    ]
    listed = await pages(lambda path: hub_world.call("GET", path), "/v1/admin/numbers?limit=1")
    assert listed[-1] == {"e164": number, "senders": view["senders"]}
    back = await hub_world.call("POST", f"{path}/senders", sender("twilio", number))
    known["id"] = back.json["id"]
    assert back.json == sender("twilio", number) | {"is_active": True, "rate": None, "account": None} | known
    assert [s["is_active"] for s in (await number_view(hub_world, number))["senders"]] == [True, True, False]

    for body, expected in (
        ({"rate": 2.5}, {"rate": 2.5, "is_active": True}),
        ({"rate": None}, {"rate": None, "is_active": True}),
        ({"is_active": False}, {"rate": None, "is_active": False}),
        ({}, {"rate": None, "is_active": False}),
        ({"is_active": True, "rate": 1}, {"rate": 1, "is_active": True}),
    ):
        changed = await hub_world.call("PATCH", f"{path}/senders/sms", body)
        assert changed.status == 200, changed
        assert {name: changed.json[name] for name in expected} == expected
    actions = [row["action"] for row in await audit(hub_world) if row["subject"] == number]
    assert actions == ["number.registered", "sender.added", "sender.added", *["sender.changed"] * 4]

    taken = await hub_world.call("POST", f"{path}/senders", sender("meta", "100000000000001"))
    assert (taken.status, taken.json["code"]) == (409, "sender_exists")
    assert [s["is_active"] for s in (await number_view(hub_world, number))["senders"]] == [True, True, False]
    for medium, body, status in (
        ("sms", {"account": "12"}, 422),
        ("sms", {"rate": 0}, 422),
        ("sms", {"rate": 1001}, 422),
        ("sms", {"is_active": None}, 422),
        ("sms", {"external_id": "x"}, 422),
        ("pigeon", {"rate": 1}, 404),
    ):
        assert (await hub_world.call("PATCH", f"{path}/senders/{medium}", body)).status == status, body
    for body in (
        sender("meta", "1", "sms"),
        sender("twilio", "100"),
        sender("twilio", number, account="1"),
        sender("meta", "1", account="x"),
        sender("meta", "1", rate=-1),
    ):
        answer = await hub_world.call("POST", f"{path}/senders", body)
        assert (answer.status, len(answer.json["errors"])) == (422, 1), body
    assert (await hub_world.call("POST", "/v1/admin/numbers/+15559999999/senders", sender("meta", "1"))).status == 404


async def test_h1_every_fault_of_a_number_is_told_at_once(hub_world: World) -> None:
    senders = [sender("meta", "1", rate=0), sender("twilio", "nonsense"), sender("meta", "2", "sms"), 7]
    answer = await hub_world.call("POST", "/v1/admin/numbers", {"e164": "12", "senders": senders, "more": 1})
    assert answer.status == 422
    assert {fault["pointer"]: fault["code"] for fault in answer.json["errors"]} == {
        "/e164": "value_error",
        "/senders/0/rate": "greater_than_equal",
        "/senders/1/external_id": "value_error",
        "/senders/2/provider": "value_error",
        "/senders/3": "model_type",
        "/senders": "two_senders",
        "/more": "extra_forbidden",
    }
    for given in ([], "x", None, {"medium": "sms"}):
        answer = await hub_world.call("POST", "/v1/admin/numbers", {"e164": "+15550004444", "senders": given})
        assert [fault["pointer"] for fault in answer.json["errors"]] == ["/senders"], given
    twice = [sender("meta", "1"), sender("twilio", "+15550004444")]
    answer = await hub_world.call("POST", "/v1/admin/numbers", {"e164": "+15550004444", "senders": twice})
    assert [fault["code"] for fault in answer.json["errors"]] == ["two_senders"]


async def test_a7_what_came_while_nobody_was_there_is_brought_by_replay(hub_world: World) -> None:
    helpdesk, crm = await hub_world.connected("helpdesk", "crm")
    customer, began = hub_world.customer(MIA), datetime.now(UTC) - timedelta(seconds=1)
    conversation = await writes(customer, helpdesk, crm, text="Before")
    for service in (crm, helpdesk):
        await leaves(service)
    for text in ("Is nobody there?", "Hello?"):
        await customer.says(text)
    await crm.connect()
    assert (crm.connection["role"], crm.connection["parent_epoch"]) == ("parent", 2)
    assert crm.connection["channel_id"] == helpdesk.connection["channel_id"]
    assert [m["text"] for m in await timeline(crm, conversation)] == ["Hello?", "Is nobody there?", "Before"]
    asked = await crm.call("POST", "/v1/replays", {"since": began.isoformat()})
    assert asked.status == 202, asked
    brought = (await crm.endpoint.hears("message.received", 4))[1:]
    assert [d.data["message"]["text"] for d in brought] == ["Before", "Is nobody there?", "Hello?"]
    assert [d.data["message"].get("unrouted", False) for d in brought] == [False, True, True]
    assert [d.data["conversation"]["sequence"] for d in brought] == [1, 2, 3]
    assert all(d.headers["webhook-replay"] == "true" for d in brought)
    assert {d.data["automation"]["parent_epoch"] for d in brought} == {2}
    assert crm.endpoint.of("channel.unrouted") == []


async def test_a8_who_joins_hears_of_itself_and_who_left_of_nothing(hub_world: World) -> None:
    helpdesk, crm = await hub_world.connected("helpdesk", "crm")
    (mine,) = await crm.endpoint.hears("service.connected")
    assert mine.data["service"] == {"id": crm.id, "name": "crm"}
    assert (mine.data["role"], mine.data["automation"]["allowed"]) == ("subscriber", False)
    await helpdesk.endpoint.hears("service.connected", 2)
    heard = len(helpdesk.endpoint.deliveries)
    await leaves(helpdesk)
    (left,) = await crm.endpoint.hears("service.disconnected")
    assert (left.data["service"]["id"], left.data["reason"]) == (helpdesk.id, "asked")
    (changed,) = await crm.endpoint.hears("channel.parent_changed")
    assert (changed.data["reason"], changed.data["previous"]["id"]) == ("disconnected", helpdesk.id)
    pause = f"/v1/admin/services/{crm.id}/numbers/{NUMBER}/pause"
    assert (await hub_world.call("POST", pause)).status == 200
    assert (await hub_world.call("POST", pause.replace("pause", "resume"))).status == 200
    (paused,) = await crm.endpoint.hears("service.paused")
    assert (paused.data["reason"], paused.data["automation"]) == ("operator", {"allowed": True, "parent_epoch": 2})
    await crm.endpoint.hears("service.resumed")
    await leaves(crm)
    assert len(helpdesk.endpoint.deliveries) == heard
    told = [(row["action"], row["actor"]) for row in await audit(hub_world) if row["channel_id"]]
    assert told[2:] == [
        ("service.connected", helpdesk.id),
        ("channel.parent_changed", helpdesk.id),
        ("service.connected", crm.id),
        ("service.disconnected", helpdesk.id),
        ("channel.parent_changed", helpdesk.id),
        ("service.paused", "operator"),
        ("service.resumed", "operator"),
        ("service.disconnected", crm.id),
        ("channel.parent_changed", crm.id),
    ]


async def test_a5_nobody_else_automates_while_the_parents_endpoint_fails(hub_world: World) -> None:
    sick, crm = await hub_world.service("sick"), await hub_world.service("crm")
    for service in (sick, crm):
        await service.connect(OTHER)
    sick.endpoint.answer = lambda _: 503
    conversation = await writes(hub_world.customer(MIA, OTHER), crm)
    tried = f"/v1/deliveries?number={OTHER.replace('+', '%2B')}&outcome=failed"
    async with asyncio.timeout(10):
        while not (await sick.call("GET", tried)).json["items"]:
            await asyncio.sleep(0.02)
    refused = await automates(crm, conversation, "no")
    assert (refused.json["code"], refused.json["parent"]["service_id"]) == ("not_parent", sick.id)
    assert (await automates(sick, conversation, "the parent's bot")).status == 202
    view = await roster(crm, OTHER)
    assert (view["parent"]["service_id"], view["parent"]["epoch"]) == (sick.id, 1)


# At once ------------------------------------------------------------------------------------------------------------


async def _connect(service: Service, number: str) -> str:
    answer = await service.call("PUT", f"/v1/numbers/{number}/connection", {})
    assert answer.status == 200, answer
    return str(answer.json["role"])


async def _leave(service: Service, number: str) -> int:
    return (await service.call("DELETE", f"/v1/numbers/{number}/connection")).status


async def logged(database_url: str, channel: str, kind: str) -> list[dict[str, Any]]:
    """What the log holds of a channel's own events of one type."""
    async with connected(database_url) as conn:
        sql = "select data from event where channel_id = $1 and type = $2 order by id"
        return [json.loads(row["data"]) for row in await conn.fetch(sql, parse_id("chn", channel), kind)]


async def _consistent(world: World, database_url: str, number: str, connected_now: int) -> dict[str, Any]:
    """One parent where anybody is connected, ranks that differ, and an epoch for each change of parent; gives the
    shared channel.
    """
    channel: dict[str, Any] = (await number_view(world, number))["channels"][0]
    roles = [member["role"] for member in channel["subscribers"]]
    assert sorted(roles) == sorted(["parent", *["subscriber"] * (connected_now - 1)] if connected_now else [])
    ranks = await ask(
        database_url,
        """select count(*) - count(distinct u.rank) from subscription u join channel c on c.id = u.channel_id
           join number n on n.id = c.number_id where n.e164 = $1""",
        number,
    )
    assert ranks == 0
    changes = await logged(database_url, channel["channel_id"], "channel.parent_changed")
    epochs = [change["parent"]["epoch"] for change in changes if change["parent"]]
    assert epochs == list(range(1, channel["parent_epoch"] + 1))
    assert changes[-1]["parent"] == channel["parent"]
    times = [change["parent"]["since"] for change in changes if change["parent"]]
    assert times == sorted(times)
    joined = [member["connected_at"] for member in channel["subscribers"]]
    assert joined == sorted(joined)
    return channel


async def test_races_between_connecting_leaving_and_handing_over(hub_world: World, database_url: str) -> None:
    services = [await hub_world.service(f"service {n}") for n in range(20)]
    source = random.Random(11)
    for turn in range(3):
        number = f"+1555100{turn:04}"
        body = {"e164": number, "senders": [sender("twilio", number, "sms")]}
        assert (await hub_world.call("POST", "/v1/admin/numbers", body)).status == 201
        roles = await asyncio.gather(*(_connect(service, number) for service in services))
        assert sorted(roles) == ["parent", *["subscriber"] * 19]
        channel = await _consistent(hub_world, database_url, number, 20)
        by_rank = [member["service_id"] for member in channel["subscribers"]]
        assert channel["parent"]["service_id"] == by_rank[0]

        chosen = source.choice(by_rank[1:])
        target = next(service for service in services if service.id == chosen)
        racing = [_leave(target, number), hands_over(hub_world, target.id, number=number)]
        done = await asyncio.gather(*(racing if turn % 2 else racing[::-1]))
        left, handed = done if turn % 2 else done[::-1]
        assert left == 204
        assert (handed.status, handed.json.get("code")) in {(200, None), (409, "not_connected")}
        channel = await _consistent(hub_world, database_url, number, 19)
        assert channel["parent"]["service_id"] == by_rank[0]
        assert channel["parent_epoch"] == (3 if handed.status == 200 else 1)

        before = channel["parent_epoch"]
        heirs = source.sample([m["service_id"] for m in channel["subscribers"][1:]], 2)
        both = await asyncio.gather(*(hands_over(hub_world, heir, number=number) for heir in heirs))
        assert [answer.status for answer in both] == [200, 200]
        assert sorted(answer.json["parent_epoch"] for answer in both) == [before + 1, before + 2]
        channel = await _consistent(hub_world, database_url, number, 19)
        assert channel["parent"]["service_id"] in heirs

        staying = source.sample([s for s in services if s is not target], 5)
        going = [s for s in services if s is not target and s not in staying]
        assert await asyncio.gather(*(_leave(s, number) for s in going)) == [204] * 14
        await _consistent(hub_world, database_url, number, 5)
        assert await asyncio.gather(*(_leave(s, number) for s in staying)) == [204] * 5
        channel = await _consistent(hub_world, database_url, number, 0)
        assert channel["parent"] is None
        assert len(await logged(database_url, channel["channel_id"], "channel.unrouted")) == 1


async def test_a_service_that_is_removed_while_it_connects_is_on_no_number(hub_world: World, database_url: str) -> None:
    (helpdesk,) = await hub_world.connected("helpdesk")
    for turn in range(10):
        crm = await hub_world.service(f"crm {turn}")
        if turn % 2:
            await _connect(crm, NUMBER)
        answers = await asyncio.gather(
            crm.call("PUT", f"/v1/numbers/{OTHER}/connection", {}),
            hub_world.call("DELETE", f"/v1/admin/services/{crm.id}"),
            crm.call("PUT", f"/v1/numbers/{NUMBER}/connection", {}),
        )
        assert answers[1].status == 204
        assert {answers[0].status, answers[2].status} <= {200, 401}
    left = await ask(database_url, "select count(*) from subscription where disconnected_at is null")
    assert left == 1
    assert (await roster(helpdesk))["parent"]["epoch"] == 1
