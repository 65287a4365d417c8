"""Contacts as whole profiles: who may know of them, what is shown, and whose word an address is (rules H5, B8, E5)."""

from typing import Any
from urllib.parse import quote

from hub.actions.consents import may_track
from hub.actions.tell_profile import profile_drafts
from hub.domain.addresses import Address
from providers.simulator import Person
from tests.support.people import NOW, SCOPES, People, ago, con, get, svc
from tests.support.talk import MIA, leaves, writes
from tests.support.wire import connected
from tests.support.world import NUMBER, Answer, Open, Service, World

EMAIL, PHONE, USER = Address("email", "mia@example.com"), Address("phone", MIA.phone or ""), "DE.771"
OTHER_PHONE = Address("phone", "+4915199999999")


async def cast(world: World) -> tuple[Service, Service, Service]:
    """Helpdesk and CRM know profiles, marketing has not that scope; all on one channel."""
    services = [
        await world.service(name, scopes=SCOPES if name != "marketing" else SCOPES[:-1])
        for name in ("helpdesk", "crm", "marketing")
    ]
    for service in services:
        await service.connect()
    return services[0], services[1], services[2]


async def search(service: Service | World, **query: str) -> list[Any]:
    words = "&".join(f"{name}={quote(value)}" for name, value in query.items())
    admin = "admin/" if isinstance(service, World) else ""
    found: list[Any] = (await get(service, f"/v1/{admin}contacts?{words}"))["items"]
    return found


def code(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json["code"]


def shown(view: dict[str, Any]) -> dict[str, str]:
    return {address["value"]: address["standing"] for address in view["addresses"]}


async def test_h5_a_profile_and_who_may_know_of_it(open_world: Open, database_url: str) -> None:
    world = await open_world(phone_region="DE", tracking_consent="implied")
    helpdesk, crm, marketing = await cast(world)
    shop = await world.service("shop", scopes=SCOPES)  # connected to nothing, but it has identified her
    stranger = await world.service("stranger", scopes=SCOPES)
    conversation = await writes(world.customer(Person(MIA.phone, user_id=USER, name="Mia")), helpdesk, crm, marketing)
    contact = (await get(helpdesk, f"/v1/conversations/{conversation}"))["contact"]["id"]
    async with connected(database_url) as conn:
        people = People(conn)
        await people.has(contact, EMAIL, "declared")
        await people.has(contact, Address("phone", "+4915111111111"), "unconfirmed")
        await people.known_to(contact, shop, "customer-7", size='{"shoe": 38}')
        await people.known_to(contact, crm, "c7", vip="true")
        visitor, link = await people.visitor(), await people.link(contact, "https://shop.example/", crm)
        await people.bind(visitor, contact, ago(hours=20), link=link)
        await people.visit(visitor, ago(hours=1), "https://shop.example/a")
        await people.visit(visitor, ago(hours=23), "https://shop.example/before")
    await helpdesk.call("PUT", f"/v1/consents/sms/{PHONE.value}", {"status": "granted", "evidence": "a form"})

    view = await get(crm, f"/v1/contacts/{contact}")
    assert (view["id"], view["requested_id"], view["name"], view["erased"]) == (contact, contact, "Mia", False)
    assert shown(view) == {
        USER: "proved", PHONE.value: "proved", EMAIL.value: "declared", "+4915111111111": "unconfirmed",
    }  # fmt: skip
    assert [(c["medium"], c["address"], c["status"], c["number"]) for c in view["consents"]] == [
        ("sms", PHONE.value, "granted", None)
    ]
    assert (view["tracked"], view["merged"], view["candidates"], view["flags"]) == (True, [], [], [])
    (binding,) = view["bindings"]
    assert (binding["visitor_id"], binding["until"], binding["trust"]) == (visitor, None, "click")
    assert binding["by"] == {"type": "click", "link_id": f"lnk_{link.hex}"}
    # Traits and ids: its own only; the operator sees all.
    assert [(t["name"], t["value"], t["service"]["name"]) for t in view["traits"]] == [("vip", True, "crm")]
    assert [(e["external_id"], e["verified"]) for e in view["external_ids"]] == [("c7", False)]
    whole = await get(world, f"/v1/admin/contacts/{contact}")
    assert {t["service"]["name"] for t in whole["traits"]} == {"crm", "shop"}
    assert {e["external_id"] for e in whole["external_ids"]} == {"c7", "customer-7"}
    assert (await get(helpdesk, f"/v1/contacts/{contact}"))["traits"] == []

    # By any usual spelling of an address, and by one's own id.
    for text in (PHONE.value, "0151 12345678", "+49 (151) 1234-5678", USER, "Mia@Example.com", "+4915111111111"):
        assert [item["id"] for item in await search(crm, address=text)] == [contact], text
        assert [item["id"] for item in await search(world, address=text)] == [contact], text
        assert await search(stranger, address=text) == []
    answer = await crm.call("GET", f"/v1/contacts?address={PHONE.value}")  # its plus arrives as a space
    assert [item["id"] for item in answer.json["items"]] == [contact]
    assert [item["id"] for item in await search(shop, external_id="customer-7")] == [contact]
    assert await search(crm, external_id="customer-7") == []
    assert [i["id"] for i in await search(world, external_id="customer-7", service_id=shop.id)] == [contact]
    for query, wanted in (
        ("", (422, "invalid_request")),
        ("address=nobody", (422, "invalid_address")),
        ("address=12", (422, "invalid_address")),
        ("address=x@y", (422, "invalid_address")),
        ("address=%2B4915112345678&external_id=7", (422, "invalid_request")),
    ):
        assert code(await crm.call("GET", f"/v1/contacts?{query}")) == wanted, query

    # Its visitor.
    seen = await get(shop, f"/v1/visitors/{visitor}")
    assert [visit["url"] for visit in seen["visits"]] == ["https://shop.example/a"]
    assert [binding["contact_id"] for binding in seen["bindings"]] == [contact]
    seen = await get(world, f"/v1/admin/visitors/{visitor}?limit=1")
    assert [(v["url"], v["contact_id"]) for v in seen["visits"]] == [("https://shop.example/a", contact)]
    seen = await get(world, f"/v1/admin/visitors/{visitor}?limit=1&before={quote(seen['next'])}")
    assert [(v["url"], v["contact_id"]) for v in seen["visits"]] == [("https://shop.example/before", None)]

    for path in (f"/v1/contacts/{contact}", f"/v1/visitors/{visitor}"):
        assert (await shop.call("GET", path)).status == 200
        assert code(await stranger.call("GET", path)) == (404, "not_found")
        assert code(await marketing.call("GET", path)) == (403, "missing_scope")
        assert code(await crm.call("GET", path.replace("/v1/", "/v1/admin/"))) == (403, "operator_only")
    for name in (f"con_{'0' * 32}", "x"):
        assert code(await world.call("GET", f"/v1/admin/contacts/{name}")) == (404, "not_found")
    assert code(await crm.call("GET", f"/v1/visitors/vis_{'0' * 32}")) == (404, "not_found")
    assert code(await world.call("GET", f"/v1/admin/visitors/vis_{'0' * 32}")) == (404, "not_found")
    await leaves(helpdesk)
    assert code(await helpdesk.call("GET", f"/v1/contacts/{contact}")) == (404, "not_found")


async def test_h5_the_survivor_answers_for_what_was_merged_into_it(hub_world: World, database_url: str) -> None:
    helpdesk, crm, _ = await cast(hub_world)
    conversation = await writes(hub_world.customer(MIA), helpdesk)
    absorbed = (await get(helpdesk, f"/v1/conversations/{conversation}"))["contact"]["id"]
    async with connected(database_url) as conn:
        people = People(conn)
        kept = await people.contact("Mia of the shop")
        await people.has(kept, EMAIL, "declared")
        assert code(await crm.call("GET", f"/v1/contacts/{kept}")) == (404, "not_found")
        await people.merge(absorbed, kept)
        for name in (absorbed, kept):
            view = await get(crm, f"/v1/contacts/{name}")
            assert (view["id"], view["requested_id"], view["name"]) == (kept, name, "Mia of the shop")
            assert [(part["id"], part["merged_into"]) for part in view["merged"]] == [(absorbed, kept)]
            assert [(a["value"], a["contact_id"]) for a in view["addresses"]] == [
                (EMAIL.value, kept),
                (PHONE.value, absorbed),
            ]
        assert [item["id"] for item in await search(crm, address=PHONE.value)] == [kept]
        await people.merge(absorbed, None)
    view = await get(crm, f"/v1/contacts/{absorbed}")
    assert (view["id"], view["merged"], list(shown(view))) == (absorbed, [], [PHONE.value])
    assert code(await crm.call("GET", f"/v1/contacts/{kept}")) == (404, "not_found")


async def test_h5_whoever_is_known_by_one_address_only_is_somebody_all_the_same(
    hub_world: World, database_url: str
) -> None:
    (shop,) = [await hub_world.service("shop", scopes=SCOPES)]
    async with connected(database_url) as conn:
        people = People(conn)
        for number, address in enumerate((EMAIL, PHONE, Address("user_id", USER), None)):
            contact = await people.contact()
            await people.known_to(contact, shop, f"customer-{number}")
            if address:
                await people.has(contact, address)
                assert [item["id"] for item in await search(shop, address=address.value)] == [contact]
            (view,) = await search(shop, external_id=f"customer-{number}")
            assert (view["id"], view["name"]) == (contact, None)
            assert shown(view) == ({address.value: "proved"} if address else {})
            page = await get(shop, f"/v1/contacts/{contact}/timeline")
            assert (page["items"], page["conversations"], page["next"]) == ([], [], None)


async def test_b8_what_somebody_typed_is_not_passed_on_as_the_customer_s(hub_world: World, database_url: str) -> None:
    """An unconfirmed address is in no event, gives no consent and is never written to; so is what another proved."""
    helpdesk, crm, _ = await cast(hub_world)
    mia = hub_world.customer(MIA)
    conversation = await writes(mia, helpdesk, crm)
    contact = (await get(helpdesk, f"/v1/conversations/{conversation}"))["contact"]["id"]
    typed, theirs = Address("phone", "+4915122222222"), Address("phone", "+4915133333333")
    await writes(hub_world.customer(Person(theirs.value)), helpdesk, text="It is mine")
    async with connected(database_url) as conn:
        people = People(conn)
        await people.has(contact, typed, "unconfirmed")
        await people.has(contact, theirs, "declared")
        await people.has(contact, EMAIL, "declared")
        await conn.execute("update conversation set generation = generation + 1")  # as whoever wrote it would have
    view = await get(helpdesk, f"/v1/contacts/{contact}")
    assert shown(view) == {
        PHONE.value: "proved", typed.value: "unconfirmed", theirs.value: "unconfirmed", EMAIL.value: "declared",
    }  # fmt: skip
    await writes(mia, helpdesk, crm, text="Hello again")
    event = next(d.data for d in crm.endpoint.of("message.received") if d.data["message"]["text"] == "Hello again")
    told = {address["value"] for address in event["contact"]["addresses"]}
    assert told == {PHONE.value, EMAIL.value}
    talk = await get(helpdesk, f"/v1/conversations/{conversation}")
    assert {address["value"] for address in talk["contact"]["addresses"]} == told
    # What its owner refused, or agreed to, is nothing of hers.
    for status, address in (("revoked", theirs), ("granted", typed)):
        await helpdesk.call("PUT", f"/v1/consents/whatsapp/{address.value}", {"status": status, "evidence": "form"})
    campaign = {"origin": "campaign", "campaign": "spring", "type": "text", "text": "Buy!"}
    answer = await helpdesk.call("POST", f"/v1/conversations/{conversation}/messages", campaign)
    assert code(answer) == (409, "no_consent")
    assert (await helpdesk.reply(conversation, "An answer")).status == 202
    assert (await mia.hears()).text == "An answer"


async def test_b8_writing_to_a_declared_number_makes_another_contact(hub_world: World, database_url: str) -> None:
    """Who reads what is sent there need not be the profile it was declared for: their answer must not land there."""
    _, crm, _ = await cast(hub_world)
    async with connected(database_url) as conn:
        people = People(conn)
        profile = await people.contact("Mia")
        await people.has(profile, EMAIL, "declared")
        await people.has(profile, OTHER_PHONE, "declared")
        await people.known_to(profile, crm, "c7")
    body = {"from": NUMBER, "to": OTHER_PHONE.value, "medium": "sms", "origin": "agent", "agent": {"id": "1"}}
    sent = await crm.call("POST", "/v1/messages", body | {"type": "text", "text": "Your parcel"})
    assert sent.status == 202, sent
    talk = await get(crm, f"/v1/conversations/{sent.json['message']['conversation_id']}")
    assert talk["contact"]["id"] != profile
    assert [a["value"] for a in talk["contact"]["addresses"]] == [OTHER_PHONE.value]
    who = Person(OTHER_PHONE.value)
    answered = await writes(hub_world.customer(who, provider="twilio", medium="sms"), crm, text="Who is this?")
    assert answered == talk["id"]
    view = await get(crm, f"/v1/contacts/{profile}")
    assert shown(view) == {EMAIL.value: "declared", OTHER_PHONE.value: "unconfirmed"}
    assert [item["id"] for item in await search(crm, address=OTHER_PHONE.value)] == [talk["contact"]["id"], profile]


# Consent for email and tracking -------------------------------------------------------------------------------------


async def consent_of(service: Service, medium: str, address: str) -> str:
    return str((await get(service, f"/v1/consents/{medium}/{quote(address)}"))["status"])


async def test_e5_consent_for_email_and_tracking(hub_world: World, database_url: str) -> None:
    helpdesk, crm, marketing = await cast(hub_world)
    mia = hub_world.customer(MIA, provider="twilio", medium="sms")
    conversation = await writes(mia, helpdesk, crm, marketing)
    contact = (await get(helpdesk, f"/v1/conversations/{conversation}"))["contact"]["id"]
    async with connected(database_url) as conn:
        await People(conn).has(contact, EMAIL, "declared")
    for medium, address in (("email", EMAIL.value), ("tracking", EMAIL.value), ("tracking", PHONE.value)):
        assert await consent_of(crm, medium, address) == "unknown"
    granted = await crm.call("PUT", f"/v1/consents/tracking/{quote('Mia@example.com')}", {"status": "granted"})
    assert (granted.json["status"], granted.json["address"]) == ("granted", EMAIL.value)
    # The person has it, whichever address it was said of; those that may know the profile hear of it.
    assert await consent_of(crm, "tracking", PHONE.value) == "granted"
    assert await consent_of(crm, "email", EMAIL.value) == "unknown"
    (event,) = await crm.endpoint.hears("consent.changed")
    assert event.data["consent"]["medium"] == "tracking"
    assert event.data["contact"]["id"] == contact
    assert "conversation" not in event.data
    again = await crm.call("PUT", f"/v1/consents/tracking/{EMAIL.value}", {"status": "granted"})
    assert len(again.json["history"]) == 1
    # STOP is about its medium, not about tracking or email.
    await crm.call("PUT", f"/v1/consents/email/{EMAIL.value}", {"status": "granted"})
    await mia.says("STOP")
    await helpdesk.endpoint.wait(lambda me: any("keyword" in d.data["consent"] for d in me.of("consent.changed")))
    assert await consent_of(crm, "sms", PHONE.value) == "revoked"
    assert [await consent_of(crm, medium, EMAIL.value) for medium in ("tracking", "email")] == ["granted", "granted"]
    await crm.call("PUT", f"/v1/consents/tracking/{PHONE.value}", {"status": "revoked"})
    refused = await helpdesk.call("PUT", f"/v1/consents/tracking/{EMAIL.value}", {"status": "granted"})
    assert code(refused) == (409, "revoked_by_customer")
    lifted = {"status": "granted", "evidence": "a letter"}
    assert (await hub_world.call("PUT", f"/v1/admin/consents/tracking/{EMAIL.value}", lifted)).status == 200
    await crm.endpoint.wait(lambda me: len(me.of("consent.changed")) == 5)
    said = [d.data["consent"] for d in crm.endpoint.of("consent.changed")]
    assert [(c["medium"], c["status"]) for c in said if c["medium"] != "sms"] == [
        ("tracking", "granted"), ("email", "granted"), ("tracking", "revoked"), ("tracking", "granted"),
    ]  # fmt: skip
    assert {d.data["consent"]["medium"] for d in marketing.endpoint.of("consent.changed")} == {"sms"}
    # Of somebody nobody knows, nobody is told.
    unknown = await crm.call("PUT", "/v1/consents/email/nobody@example.com", {"status": "revoked"})
    assert unknown.json["status"] == "revoked"
    assert len(crm.endpoint.of("consent.changed")) == 5
    views = {(c["medium"], c["address"]): c["status"] for c in (await get(crm, f"/v1/contacts/{contact}"))["consents"]}
    assert views == {
        ("tracking", EMAIL.value): "granted",
        ("email", EMAIL.value): "granted",
        ("sms", PHONE.value): "revoked",
        ("tracking", PHONE.value): "revoked",
    }


async def test_e5_what_is_undone_was_never_said_and_what_is_pending_is_a_question(
    hub_world: World, database_url: str
) -> None:
    _, crm, _ = await cast(hub_world)
    async with connected(database_url) as conn:
        contact = await People(conn).contact()
        await People(conn).has(contact, PHONE)
        op = await conn.fetchval(
            "insert into identity_op (id, kind, source, rule, changes, at)"
            " values (gen_random_uuid(), 'declaration', 'browser', 'I1', '[]', now()) returning id"
        )
        add = (
            "insert into consent_event (medium, address_type, address_key, address_value, kind, source, at, op_id)"
            " values ('sms', 'phone', $1, $1, $2, $3, now(), $4)"
        )
        await conn.execute(add, PHONE.value, "pending", "browser", op)
        assert await consent_of(crm, "sms", PHONE.value) == "pending"
        await conn.execute(add, PHONE.value, "granted", "site", op)
        assert await consent_of(crm, "sms", PHONE.value) == "granted"
        await conn.execute("update identity_op set undone_at = now(), undone_by = 'operator'")
        view = await get(crm, f"/v1/consents/sms/{PHONE.value}")
        assert (view["status"], view["history"]) == ("unknown", [])
        await conn.execute("update identity_op set undone_at = null, undone_by = null")
        view = await get(crm, f"/v1/consents/sms/{PHONE.value}")
        assert [(entry["kind"], entry["source"]) for entry in view["history"]] == [
            ("pending", "browser"),
            ("granted", "site"),
        ]


async def test_whether_a_contact_may_be_tracked(hub_world: World, database_url: str) -> None:
    _, crm, _ = await cast(hub_world)
    async with connected(database_url) as conn:
        people = People(conn)
        kept, part = await people.contact(), await people.contact()
        await people.has(kept, EMAIL, "declared")
        await people.has(part, PHONE)
        await people.merge(part, kept)

        async def modes(contact: str = kept) -> tuple[bool, bool, bool]:
            found = [await may_track(conn, con(contact), mode) for mode in ("required", "implied", "off")]
            return found[0], found[1], found[2]

        async def says(status: str, address: Address, evidence: str | None = None) -> None:
            body = {"status": status} | ({"evidence": evidence} if evidence else {})
            path = f"/v1/admin/consents/tracking/{quote(address.value)}"
            assert (await hub_world.call("PUT", path, body)).status == 200

        assert await modes() == (False, True, True)
        await crm.call("PUT", f"/v1/consents/sms/{PHONE.value}", {"status": "revoked"})
        assert await modes() == (False, True, True)
        await says("granted", PHONE)
        assert await modes() == await modes(part) == (True, True, True)
        await people.merge(part, None)
        assert await modes() == (False, True, True)
        assert await modes(part) == (True, True, True)
        await people.merge(part, kept)
        await says("revoked", EMAIL)  # of any part: no merge takes a refusal away
        assert await modes(part) == (False, False, True)
        await says("granted", EMAIL, "a letter")
        assert await modes() == (True, True, True)
        # What a browser typed gives nothing, but a refusal of its owner's counts.
        other = await people.contact()
        await people.has(other, OTHER_PHONE, "unconfirmed")
        await says("granted", OTHER_PHONE)
        assert await modes(other) == (False, True, True)
        await says("revoked", OTHER_PHONE)
        assert await modes(other) == (False, False, True)
        await conn.execute("update contact set erased_at = now() where id = $1", con(other))
        assert await modes(other) == (False, False, False)
        assert not await may_track(conn, con("con_" + "0" * 32), "off")


async def test_h5_who_hears_of_a_profile(hub_world: World, database_url: str) -> None:
    helpdesk, crm, _ = await cast(hub_world)
    books = await hub_world.service("books", plan="standalone", scopes=SCOPES)
    await books.connect("+15550002222")
    nowhere = await hub_world.service("nowhere", scopes=SCOPES)
    conversation = await writes(hub_world.customer(MIA), helpdesk, crm)
    contact = (await get(helpdesk, f"/v1/conversations/{conversation}"))["contact"]["id"]
    async with connected(database_url) as conn:
        people = People(conn)
        kept, stranger = await people.contact(), await people.contact()

        async def heard(*contacts: str) -> list[tuple[str, set[str]]]:
            drafts = await profile_drafts(conn, "profile.updated", [con(c) for c in contacts], NOW, profile={"x": 1})
            assert all(draft.lane == draft.channel_id and draft.sequence is None for draft in drafts)
            assert all(draft.data["profile"] == {"x": 1} for draft in drafts)
            names = {svc(s): s.name for s in (helpdesk, crm, books, nowhere)}
            return [(draft.data["number"], {names[one] for one in draft.audience or ()}) for draft in drafts]

        shared = (NUMBER, {"helpdesk", "crm"})
        assert await heard(contact) == [shared]
        assert await heard(stranger) == await heard() == []
        await people.known_to(contact, crm)  # who hears it in a conversation is not told twice
        await people.known_to(contact, nowhere)
        assert await heard(contact) == [shared]
        await people.known_to(contact, books)
        assert await heard(contact) == [shared, ("+15550002222", {"books"})]
        assert await heard(kept) == []
        await people.merge(contact, kept)
        assert await heard(kept) == await heard(contact) == await heard(kept, contact, stranger)
        assert len(await heard(kept)) == 2
        await conn.execute("update service set scopes = '{read}' where id = any($1)", [svc(helpdesk), svc(books)])
        assert await heard(kept) == [(NUMBER, {"crm"})]
