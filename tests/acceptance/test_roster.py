"""Who is on a number: parent, subscribers, standalone services, and what changes when one leaves (rules A2 to A11)."""

import asyncio
import random
from pathlib import Path

from tests.support.talk import (
    MIA,
    audit,
    automates,
    conversation_of,
    ends,
    leaves,
    operator_events,
    revealed_events,
    roster,
    timeline,
    writes,
)
from tests.support.wire import ask, until
from tests.support.world import NUMBER, Service, World, world


async def test_a2_the_first_is_parent_and_all_others_are_subscribers(hub_world: World) -> None:
    services = await hub_world.connected("helpdesk", "crm", "marketing")
    helpdesk, crm, marketing = services
    assert [service.connection["role"] for service in services] == ["parent", "subscriber", "subscriber"]
    assert len({service.connection["channel_id"] for service in services}) == 1
    assert len({service.connection["signing_secret"] for service in services}) == 3
    for service in services:
        assert service.connection["parent"]["service_id"] == helpdesk.id
        assert service.connection["parent_epoch"] == 1
    seen = [await roster(service) for service in services]
    assert [view["role"] for view in seen] == ["parent", "subscriber", "subscriber"]
    for view in seen:
        assert view["parent"]["service_id"] == helpdesk.id
        assert view["parent"]["epoch"] == 1
        assert view["parent"]["since"] == seen[0]["parent"]["since"]
        assert [member["service_id"] for member in view["subscribers"]] == [helpdesk.id, crm.id, marketing.id]
        assert [member["role"] for member in view["subscribers"]] == ["parent", "subscriber", "subscriber"]


async def test_a9_who_is_not_connected_is_told_nothing_of_the_channel(hub_world: World) -> None:
    await hub_world.connected("helpdesk")
    stranger = await hub_world.service("stranger")
    view = await roster(stranger)
    assert (view["role"], view["channel_id"]) == (None, None)
    assert "helpdesk" not in str(view)
    for path in (f"/v1/numbers/{NUMBER}9", "/v1/numbers/nonsense", "/v1/numbers/%00"):
        for method in ("GET", "PUT", "DELETE"):
            suffix = "" if method == "GET" else "/connection"
            answer = await stranger.call(method, path + suffix, {} if method == "PUT" else None)
            assert answer.status in {404, 422}, (method, path, answer)
    answer = await stranger.call("DELETE", f"/v1/numbers/{NUMBER}/connection")
    assert (answer.status, answer.json["code"]) == (409, "not_connected")
    answer = await stranger.call("POST", f"/v1/numbers/{NUMBER}/connection/rotate-secret")
    assert (answer.status, answer.json["code"]) == (409, "not_connected")


async def _apart(hub_world: World, own: Service, *, helpdesk: Service, crm: Service) -> None:
    """One service on a channel of its own, two on the shared one: B7 for all, and nothing crosses (A3)."""
    assert own.connection["role"] == "standalone"
    assert own.connection["parent"] is None
    assert own.connection["channel_id"] != helpdesk.connection["channel_id"]
    customer = hub_world.customer(MIA)
    shared = await writes(customer, helpdesk, crm, own, text="Is anybody there?")
    mine = conversation_of(own, "Is anybody there?")
    assert mine != shared
    here, there = own.endpoint.of("message.received")[0].data, helpdesk.endpoint.of("message.received")[0].data
    assert here["message"]["text"] == there["message"]["text"]
    assert here["message"]["id"] != there["message"]["id"]
    assert here["event_id"] != there["event_id"]
    assert here["automation"]["allowed"] is False

    assert (await own.reply(mine, "said apart")).status == 202
    assert (await crm.reply(shared, "said together")).status == 202
    assert {(await customer.hears()).text, (await customer.hears()).text} == {"said apart", "said together"}
    await writes(customer, helpdesk, crm, own, text="Thanks to both")
    for service, channel in ((own, own), (helpdesk, helpdesk), (crm, helpdesk)):
        await service.endpoint.wait(
            lambda me: any(d.data["message"]["status"] == "read" for d in me.of("message.status"))
        )
        assert {d.data["channel_id"] for d in service.endpoint.deliveries} == {channel.connection["channel_id"]}
        assert len(service.endpoint.of("message.queued")) == 1
    assert [m.get("text") for m in await timeline(own, mine)] == ["Thanks to both", "said apart", "Is anybody there?"]
    assert [m.get("text") for m in await timeline(crm, shared)] == [
        "Thanks to both",
        "said together",
        "Is anybody there?",
    ]

    for service, foreign in ((own, shared), (helpdesk, mine), (crm, mine)):
        assert (await service.call("GET", f"/v1/conversations/{foreign}")).status == 404
        assert (await service.call("GET", f"/v1/conversations/{foreign}/messages")).status == 404
        assert (await service.reply(foreign, "x")).status == 404
        listed = (await service.call("GET", "/v1/conversations")).json["items"]
        assert foreign not in {item["id"] for item in listed}
    refused = await automates(own, mine, "I am a robot")
    assert (refused.status, refused.json["code"]) == (409, "number_shared")
    assert [member["service_id"] for member in (await roster(own))["subscribers"]] == [own.id]
    assert own.id not in str(await roster(helpdesk))


async def test_a3_a_standalone_service_has_a_channel_of_its_own(hub_world: World) -> None:
    helpdesk, crm = await hub_world.connected("helpdesk", "crm")
    (own,) = await hub_world.connected("own", plan="standalone")
    await _apart(hub_world, own, helpdesk=helpdesk, crm=crm)


async def test_a3_so_has_one_that_was_upgraded_even_if_it_came_first(hub_world: World) -> None:
    own = await hub_world.service("own", upgraded_from_standalone=True)
    await own.connect()
    helpdesk, crm = await hub_world.connected("helpdesk", "crm")
    assert helpdesk.connection["role"] == "parent"
    await _apart(hub_world, own, helpdesk=helpdesk, crm=crm)


async def test_a3_two_standalone_services_do_not_share_either(hub_world: World) -> None:
    one, other = await hub_world.connected("one", "other", plan="standalone")
    assert one.connection["channel_id"] != other.connection["channel_id"]
    mine = await writes(hub_world.customer(MIA), one, other)
    assert conversation_of(other, "Hello") != mine
    refused = await automates(one, mine, "robot")
    assert refused.json["code"] == "number_shared"
    await leaves(one)
    await writes(hub_world.customer(MIA), other, text="Still there?")


async def test_a4_a_leaver_hears_and_reads_nothing_more_and_the_others_go_on(hub_world: World) -> None:
    helpdesk, crm, marketing = await hub_world.connected("helpdesk", "crm", "marketing")
    customer = hub_world.customer(MIA)
    conversation = await writes(customer, helpdesk, crm, marketing)
    sent = await crm.reply(conversation, "from crm")
    message = sent.json["message"]["id"]
    await ends(marketing, message, "read")
    await leaves(crm)
    (gone,) = await marketing.endpoint.hears("service.disconnected")
    assert gone.data["service"] == {"id": crm.id, "name": "crm"}
    heard = len(crm.endpoint.deliveries)
    await writes(customer, helpdesk, marketing, text="And now?")
    await helpdesk.reply(conversation, "from helpdesk")
    await marketing.endpoint.wait(lambda me: len(me.of("message.status")) >= 8)
    assert len(crm.endpoint.deliveries) == heard

    for path in (f"conversations/{conversation}", f"conversations/{conversation}/messages", f"messages/{message}"):
        assert (await crm.call("GET", f"/v1/{path}")).status == 404
    assert (await crm.call("GET", "/v1/conversations")).json["items"] == []
    assert (await crm.reply(conversation, "x")).status == 404
    assert (await roster(crm))["role"] is None
    for service in (helpdesk, marketing):
        sequences = [
            d.data["conversation"]["sequence"]
            for d in service.endpoint.deliveries
            if "conversation" in d.data and d.type != "conversation.collision"  # told to two only: it takes no number
        ]
        assert sequences == list(range(1, len(sequences) + 1))
    assert [member["service_id"] for member in (await roster(helpdesk))["subscribers"]] == [helpdesk.id, marketing.id]
    assert (await roster(helpdesk))["parent"]["epoch"] == 1
    texts = [m.get("text") or m["author"]["name"] for m in await timeline(helpdesk, conversation)]
    assert texts == ["from helpdesk", "And now?", "crm", "Hello"]


async def test_a5_the_longest_connected_inherits_in_the_same_transaction(hub_world: World, database_url: str) -> None:
    helpdesk, crm, marketing = await hub_world.connected("helpdesk", "crm", "marketing")
    customer, simulator = hub_world.customer(MIA), hub_world.simulator
    conversation = await writes(customer, helpdesk, crm, marketing)
    simulator.hold()
    accepted = [
        await crm.reply(conversation, "1 crm's agent, with the provider"),
        await automates(helpdesk, conversation, "2 bot"),
        await automates(helpdesk, conversation, "3 workflow", "workflow"),
        await helpdesk.reply(conversation, "4 helpdesk's agent"),
        await crm.reply(conversation, "5 crm's agent"),
    ]
    assert [answer.status for answer in accepted] == [202] * 5
    ids = [answer.json["message"]["id"] for answer in accepted]
    await simulator.wait_for(lambda: simulator.in_flight == 1)
    await leaves(helpdesk)

    for service in (crm, marketing):
        changed = (await service.endpoint.hears("channel.parent_changed"))[-1].data
        assert changed["parent"]["service_id"] == crm.id
        assert changed["parent"]["epoch"] == 2
        assert changed["previous"] == {"id": helpdesk.id, "name": "helpdesk"}
        view = await roster(service)
        assert (view["parent"]["service_id"], view["parent"]["epoch"]) == (crm.id, 2)
        for bot in ids[1:3]:
            cancelled = await ends(service, bot, "cancelled")
            assert cancelled["masked"] is True
            assert cancelled["origin"] in {"chatbot", "workflow"}
    assert (await roster(crm))["role"] == "parent"
    transactions = await ask(
        database_url,
        """select count(distinct xmin::text) from event
           where type = 'service.disconnected' or type = 'message.status' and data like '%"cancelled"%'
              or type = 'channel.parent_changed' and data like '%"disconnected"%'""",
    )
    assert transactions == 1
    told = [e["data"]["message"] for e in await revealed_events(hub_world, "message.status")]
    reasons = {m["id"]: m["error"]["code"] for m in told if m["status"] == "cancelled"}
    assert reasons == {ids[1]: "not_parent", ids[2]: "not_parent"}

    simulator.release()
    texts = [(await customer.hears()).text for _ in range(3)]
    assert texts == ["1 crm's agent, with the provider", "4 helpdesk's agent", "5 crm's agent"]
    for message in (ids[0], ids[3], ids[4]):
        await ends(marketing, message, "read")
    assert (await automates(crm, conversation, "6 the new parent's bot", parent_epoch=2)).status == 202
    assert (await customer.hears()).text == "6 the new parent's bot"
    assert len(simulator.attempts) == 4


async def test_a5_a_failing_endpoint_never_changes_parenthood(hub_world: World) -> None:
    helpdesk, crm = await hub_world.connected("helpdesk", "crm")
    helpdesk.endpoint.answer = lambda _: 410
    await writes(hub_world.customer(MIA), crm)
    attempts = await until(lambda: _attempts(helpdesk, "gone"))
    assert attempts[0]["http_status"] == 410
    assert (await roster(crm))["parent"]["service_id"] == helpdesk.id
    assert (await roster(helpdesk))["role"] == "parent"
    assert (await roster(helpdesk))["parent"]["epoch"] == 1


async def _attempts(service: Service, outcome: str) -> list[dict[str, object]]:
    items = (await service.call("GET", "/v1/deliveries")).json["items"]
    return [item for item in items if item["outcome"] == outcome]


async def test_a7_when_the_last_has_left_messages_are_kept_and_flagged(hub_world: World) -> None:
    helpdesk, crm = await hub_world.connected("helpdesk", "crm")
    customer = hub_world.customer(MIA)
    conversation = await writes(customer, helpdesk, crm)
    assert (await automates(helpdesk, conversation, "bot")).status == 202
    await customer.hears()
    await leaves(crm)
    assert await operator_events(hub_world, "channel.unrouted") == []
    await leaves(helpdesk)
    (unrouted,) = await operator_events(hub_world, "channel.unrouted")
    assert unrouted["data"]["number"] == NUMBER
    assert unrouted["data"]["channel_id"] == helpdesk.connection["channel_id"]
    changed = (await operator_events(hub_world, "channel.parent_changed"))[-1]["data"]
    assert changed["parent"] is None
    await customer.says("Is nobody there?")
    stored = (await operator_events(hub_world, "message.received"))[-1]["data"]["message"]
    assert (stored["text"], stored["unrouted"]) == ("Is nobody there?", True)

    marketing = await hub_world.service("marketing")
    await marketing.connect()
    assert marketing.connection["role"] == "parent"
    assert marketing.connection["channel_id"] == helpdesk.connection["channel_id"]
    assert marketing.connection["parent_epoch"] == 2
    messages = await timeline(marketing, conversation)
    assert [message.get("text") for message in messages] == ["Is nobody there?", None, "Hello"]
    assert [message.get("unrouted", False) for message in messages] == [True, False, False]
    await writes(customer, marketing, text="At last")
    assert [d.data["message"]["text"] for d in marketing.endpoint.of("message.received")] == ["At last"]
    assert "unrouted" not in marketing.endpoint.of("message.received")[0].data["message"]
    assert not any(d.type == "channel.unrouted" for s in (helpdesk, crm, marketing) for d in s.endpoint.deliveries)


async def test_a7_a_number_never_connected_behaves_the_same(hub_world: World) -> None:
    await hub_world.customer(MIA).says("First!")
    stored = (await operator_events(hub_world, "message.received"))[0]["data"]
    assert stored["message"]["unrouted"] is True
    helpdesk = await hub_world.service("helpdesk")
    await helpdesk.connect()
    assert helpdesk.connection["parent_epoch"] == 1
    assert helpdesk.connection["channel_id"] == stored["channel_id"]
    assert [m["text"] for m in await timeline(helpdesk, stored["conversation"]["id"])] == ["First!"]


async def test_a8_every_change_is_an_event_to_all_and_an_audit_row(hub_world: World) -> None:
    helpdesk, crm = await hub_world.connected("helpdesk", "crm")
    joined = await helpdesk.endpoint.hears("service.connected", 2)
    assert [d.data["service"]["name"] for d in joined] == ["helpdesk", "crm"]
    assert [d.data["role"] for d in joined] == ["parent", "subscriber"]
    assert (await crm.endpoint.hears("service.connected"))[0].data["service"]["name"] == "crm"
    first = (await helpdesk.endpoint.hears("channel.parent_changed"))[0].data
    assert (first["parent"]["service_id"], first["previous"]) == (helpdesk.id, None)
    await leaves(helpdesk)
    (left,) = await crm.endpoint.hears("service.disconnected")
    assert left.data["service"]["name"] == "helpdesk"
    (changed,) = await crm.endpoint.hears("channel.parent_changed")
    assert (changed.data["number"], changed.data["channel_id"]) == (NUMBER, crm.connection["channel_id"])
    assert changed.data["automation"] == {"allowed": True, "parent_epoch": 2}
    rows = [row for row in await audit(hub_world) if row["channel_id"] == crm.connection["channel_id"]]
    told = [(row["action"], row["actor"], row["subject"]) for row in rows if row["action"].startswith("service.")]
    assert told == [
        ("service.connected", helpdesk.id, NUMBER),
        ("service.connected", crm.id, NUMBER),
        ("service.disconnected", helpdesk.id, NUMBER),
    ]
    assert all(row["at"] for row in rows)


async def test_a10_who_comes_back_starts_at_the_head_and_at_the_end_of_the_line(hub_world: World) -> None:
    helpdesk, crm, marketing = await hub_world.connected("helpdesk", "crm", "marketing")
    customer = hub_world.customer(MIA)
    conversation = await writes(customer, helpdesk, crm, marketing)
    old_secret = helpdesk.connection["signing_secret"]
    await leaves(helpdesk)
    await writes(customer, crm, marketing, text="Missed")
    await helpdesk.connect()
    assert helpdesk.connection["role"] == "subscriber"
    assert helpdesk.connection["signing_secret"] != old_secret
    await writes(customer, helpdesk, crm, marketing, text="Back again")
    assert [d.data["message"]["text"] for d in helpdesk.endpoint.of("message.received")] == ["Hello", "Back again"]
    assert [m["text"] for m in await timeline(helpdesk, conversation)] == ["Back again", "Missed", "Hello"]
    assert not helpdesk.endpoint.refused
    await leaves(crm)
    view = await roster(helpdesk)
    assert (view["parent"]["service_id"], view["parent"]["epoch"]) == (marketing.id, 3)
    assert [member["service_id"] for member in view["subscribers"]] == [marketing.id, helpdesk.id]


async def test_a11_a_service_may_live_without_an_endpoint(hub_world: World) -> None:
    crm = await hub_world.service("crm")
    for body in ({}, {"endpoint_url": None}, None):
        answer = await crm.call("PUT", f"/v1/numbers/{NUMBER}/connection", body)
        assert answer.status == 200, answer
    assert answer.json["role"] == "parent"
    (helpdesk,) = await hub_world.connected("helpdesk")
    conversation = await writes(hub_world.customer(MIA), helpdesk)
    assert [m["text"] for m in await timeline(crm, conversation)] == ["Hello"]
    assert (await crm.reply(conversation, "Hi")).status == 202
    await helpdesk.endpoint.hears("message.queued")
    assert crm.endpoint.deliveries == []
    assert (await crm.call("GET", "/v1/deliveries")).json["items"] == []


async def test_connecting_again_updates_and_keeps_rank_and_secret(hub_world: World) -> None:
    helpdesk, crm = await hub_world.connected("helpdesk", "crm")
    secret = helpdesk.connection["signing_secret"]
    await helpdesk.endpoint.hears("service.connected", 2)
    await helpdesk.endpoint.hears("channel.parent_changed")
    answer = await helpdesk.call(
        "PUT",
        f"/v1/numbers/{NUMBER}/connection",
        {"endpoint_url": helpdesk.endpoint.url, "event_types": ["message.received"], "display": "full"},
    )
    assert answer.status == 200
    assert "signing_secret" not in answer.json
    assert (answer.json["role"], answer.json["parent_epoch"]) == ("parent", 1)
    assert helpdesk.endpoint.secret == secret
    path = f"/v1/numbers/{NUMBER}/connection"
    named = {"endpoint_url": crm.endpoint.url, "share": [helpdesk.id] * 3}
    assert (await crm.call("PUT", path, named)).json["share"] == [helpdesk.id]
    named["share"] = [f"svc_{number:032x}" for number in range(201)]
    assert (await crm.call("PUT", path, named)).json["code"] == "invalid_request"
    conversation = await writes(hub_world.customer(MIA), helpdesk, crm)
    await helpdesk.reply(conversation, "Hi")
    await crm.endpoint.wait(lambda me: len(me.of("message.status")) == 4)
    await writes(hub_world.customer(MIA), helpdesk, crm, text="Thanks")
    assert [d.type for d in helpdesk.endpoint.deliveries if "message" in d.data] == ["message.received"] * 2
    await leaves(helpdesk)
    assert (await roster(crm))["parent"]["service_id"] == crm.id


async def test_g5_a_subscription_can_filter_event_types(hub_world: World) -> None:
    (helpdesk,) = await hub_world.connected("helpdesk")
    crm = await hub_world.service("crm")
    await crm.connect(event_types=["message.received", "message.status"])
    customer = hub_world.customer(MIA)
    conversation = await writes(customer, helpdesk, crm)
    await helpdesk.reply(conversation, "Hi")
    await crm.endpoint.wait(lambda me: len(me.of("message.status")) == 4)
    assert [d.type for d in crm.endpoint.deliveries] == ["message.received", *["message.status"] * 4]
    await crm.connect(event_types=None)
    await helpdesk.reply(conversation, "Hi again")
    await crm.endpoint.hears("message.queued")


async def test_c2_content_is_shown_in_full_where_both_sides_want_it(hub_world: World) -> None:
    helpdesk = await hub_world.service("helpdesk")
    crm, marketing = await hub_world.connected("crm", "marketing")
    await helpdesk.connect(share=[crm.id])
    await crm.connect(display="full")
    await marketing.connect(display="full")
    conversation = await writes(hub_world.customer(MIA), helpdesk, crm, marketing)
    await helpdesk.reply(conversation, "for crm")
    seen = {s.name: (await s.endpoint.hears("message.queued"))[0].data["message"] for s in (helpdesk, crm, marketing)}
    assert {name: message.get("text") for name, message in seen.items()} == {
        "helpdesk": "for crm",
        "crm": "for crm",
        "marketing": None,
    }
    await helpdesk.connect(share="all")
    await helpdesk.reply(conversation, "for all")
    assert (await marketing.endpoint.hears("message.queued", 2))[1].data["message"]["text"] == "for all"
    await helpdesk.connect(share="none")
    await helpdesk.reply(conversation, "for nobody")
    assert "text" not in (await marketing.endpoint.hears("message.queued", 3))[2].data["message"]
    for share in (["svc_nonsense"], ["nonsense"], "some"):
        answer = await helpdesk.call("PUT", f"/v1/numbers/{NUMBER}/connection", {"share": share})
        assert answer.status == 422, (share, answer)


async def test_g1_secrets_rotate_with_an_overlap(hub_world: World) -> None:
    (helpdesk,) = await hub_world.connected("helpdesk")
    customer, old = hub_world.customer(MIA), helpdesk.endpoint.secret
    rotated = await helpdesk.call("POST", f"/v1/numbers/{NUMBER}/connection/rotate-secret")
    assert rotated.status == 200, rotated
    new = rotated.json["signing_secret"]
    assert new != old
    assert new.startswith("whsec_")
    assert rotated.json["overlap_seconds"] == 86_400
    for secret, text in ((old, "verified by the old"), (new, "verified by the new")):
        helpdesk.endpoint.secret = secret
        await writes(customer, helpdesk, text=text)
        last = helpdesk.endpoint.deliveries[-1]
        assert len(last.headers["webhook-signature"].split()) == 2
    assert not helpdesk.endpoint.refused
    actions = [row["action"] for row in await audit(hub_world)]
    assert actions.count("secret.rotated") == 1
    assert (await helpdesk.call("GET", f"/v1/numbers/{NUMBER}")).json.get("signing_secret") is None


async def test_g1_after_the_overlap_only_the_new_secret_signs(database_url: str, tmp_path: Path) -> None:
    async with world(database_url, tmp_path, secret_overlap=0) as made:
        (helpdesk,) = await made.connected("helpdesk")
        rotated = await helpdesk.call("POST", f"/v1/numbers/{NUMBER}/connection/rotate-secret")
        helpdesk.endpoint.secret = rotated.json["signing_secret"]
        await writes(made.customer(MIA), helpdesk)
        assert len(helpdesk.endpoint.deliveries[-1].headers["webhook-signature"].split()) == 1
        assert not helpdesk.endpoint.refused


async def test_endpoints_that_may_not_be_called_are_refused(hub_world: World) -> None:
    crm = await hub_world.service("crm")
    for url, code in (
        ("https://169.254.169.254/latest", "endpoint_not_allowed"),
        ("http://example.com/", None),
        ("https://2852039166/latest", "endpoint_url_invalid"),
        ("", "endpoint_url_invalid"),
        ("gopher://x", "endpoint_url_invalid"),
    ):
        answer = await crm.call("PUT", f"/v1/numbers/{NUMBER}/connection", {"endpoint_url": url})
        assert answer.status == (422 if code else 200), (url, answer)
        assert answer.json.get("code") == code
    assert (await roster(crm))["role"] == "parent"


async def _connect(service: Service) -> str:
    answer = await service.call("PUT", f"/v1/numbers/{NUMBER}/connection", {})
    assert answer.status == 200, answer
    return str(answer.json["role"])


async def test_a2_twenty_that_connect_at_once_have_one_parent(hub_world: World, database_url: str) -> None:
    services = [await hub_world.service(f"service {n}") for n in range(20)]
    roles = await asyncio.gather(*(_connect(service) for service in services))
    assert sorted(roles) == ["parent", *["subscriber"] * 19]
    assert await _consistent(database_url) == 20
    assert len(await operator_events(hub_world, "service.connected")) == 20
    assert len(await operator_events(hub_world, "channel.parent_changed")) == 1
    assert (await roster(services[0]))["parent"]["epoch"] == 1


async def test_a5_connecting_and_leaving_at_once_never_leaves_two_parents_or_none(
    hub_world: World, database_url: str
) -> None:
    services = [await hub_world.service(f"service {n}") for n in range(20)]
    await asyncio.gather(*(_connect(service) for service in services[:10]))
    source = random.Random(7)
    inside = set(range(10))
    for _ in range(4):
        changing = source.sample(range(20), 14)
        await asyncio.gather(
            *(leaves(services[n]) if n in inside else _connect(services[n]) for n in changing),
        )
        inside ^= set(changing)
        assert await _consistent(database_url) == len(inside)
    changes = [event["data"]["parent"] for event in await operator_events(hub_world, "channel.parent_changed")]
    epochs = [parent["epoch"] for parent in changes if parent]
    assert epochs == list(range(1, len(epochs) + 1))
    view = await roster(services[min(inside)])
    assert view["parent_epoch"] == epochs[-1]
    assert view["parent"]["service_id"] == changes[-1]["service_id"]


async def _consistent(database_url: str) -> int:
    """Exactly one parent, who is the longest connected; ranks are unique. Gives how many are connected."""
    row = await ask(
        database_url,
        """select array[count(*), count(distinct rank), count(*) filter (where is_parent),
                  count(*) filter (where is_parent and rank = first)]
           from (select *, min(rank) over () as first from subscription where disconnected_at is null) as s""",
    )
    connected, ranks, parents, first = row
    assert (ranks, parents, first) == (connected, 1 if connected else 0, 1 if connected else 0)
    return int(connected)
