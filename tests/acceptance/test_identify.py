"""A service says who its customer is: rules I1 to I7 over HTTP, names and traits, who hears of it, and races."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest

from hub.domain.ids import public_id
from providers.simulator import Person
from tests.support.profiles import (
    ANNA,
    ANNA_MAIL,
    BEN,
    BEN_MAIL,
    NEW,
    SHOP,
    addresses,
    id_of,
    opens,
    says,
    status,
)
from tests.support.talk import writes
from tests.support.web import Browser, plant_click, plant_link, together, who
from tests.support.wire import ask
from tests.support.world import Answer, Open, Service, World


@pytest.fixture
async def shop_world(open_world: Open) -> World:
    return await open_world(**SHOP)


def told(service: Service, kind: str, contact: str | None = None) -> list[dict[str, Any]]:
    found = [d.data for d in service.endpoint.of(kind)]
    return [data for data in found if contact is None or data["contact"]["id"] == contact]


async def test_i1_to_i5_addresses_are_filled_replaced_and_never_taken(shop_world: World) -> None:
    shop = await opens(shop_world)
    first = await says(shop, email=f" {ANNA_MAIL.upper()}", consents=["email", "tracking"], name="Anna")
    assert (first["created"], first["rule"], first["notes"], first["candidates"]) == (True, "I1", [], [])
    assert (first["contact"]["name"], addresses(first)) == ("Anna", {ANNA_MAIL})
    assert "visitor_id" not in first
    assert [await status(shop, medium, ANNA_MAIL) for medium in ("email", "tracking")] == ["granted", "granted"]
    # I2, in another spelling; then the same again changes nothing.
    filled = await says(shop, email=ANNA_MAIL, phone="0151 1111 1111", consents=["sms", "whatsapp"])
    assert (filled["rule"], filled["contact"]["id"]) == ("I2", first["contact"]["id"])
    assert addresses(filled) == {ANNA_MAIL, ANNA}
    again = await says(shop, email=ANNA_MAIL, phone="+49 (0)151 11111111", consents=["sms"])
    assert (again["rule"], again["created"], again["operation_id"]) == ("I4", False, None)
    assert addresses(again) == {ANNA_MAIL, ANNA}
    # I3: the new number has only the consent given with it.
    replaced = await says(shop, email=ANNA_MAIL, phone=NEW, consents=["whatsapp"])
    assert (replaced["rule"], addresses(replaced)) == ("I3", {ANNA_MAIL, NEW})
    assert [await status(shop, medium, ANNA) for medium in ("sms", "whatsapp")] == ["revoked", "revoked"]
    assert [await status(shop, medium, NEW) for medium in ("sms", "whatsapp")] == ["unknown", "granted"]
    # An email is never replaced: another one is another person.
    other = await says(shop, email=BEN_MAIL)
    assert (other["rule"], other["created"]) == ("I1", True)
    # I5: a phone of another profile stays there.
    taken = await says(shop, email=BEN_MAIL, phone=NEW, consents=["sms"])
    assert (taken["contact"]["id"], taken["notes"]) == (other["contact"]["id"], ["not_taken"])
    (candidate,) = taken["candidates"]
    assert set(candidate["contact_ids"]) == {first["contact"]["id"], other["contact"]["id"]}
    assert (candidate["reason"], candidate["proper"]) == ("I5", True)
    assert await status(shop, "sms", NEW) == "unknown"
    assert (await says(shop, phone=NEW))["contact"]["id"] == first["contact"]["id"]
    # What a customer has revoked, no service gives again.
    mia = shop_world.customer(Person(BEN, name="Ben"), provider="twilio", medium="sms")
    await writes(mia, shop, text="STOP")
    assert (await says(shop, phone=BEN, consents=["sms"]))["notes"] == ["revoked"]
    assert await status(shop, "sms", BEN) == "revoked"
    # All of it was told, in the order it was done.
    await shop.endpoint.wait(lambda me: len(me.of("profile.merge_suggested")) == 1)
    updates = [data["profile"] for data in told(shop, "profile.updated", first["contact"]["id"])]
    assert [update["rule"] for update in updates] == ["I1", "I2", "I3"]
    assert updates[0]["changed"] == ["addresses", "name"]
    assert updates[1]["operation_id"] == filled["operation_id"]
    consents = [(d["consent"]["medium"], d["consent"]["address"], d["consent"]["status"])
                for d in told(shop, "consent.changed", first["contact"]["id"])]  # fmt: skip
    assert consents[:4] == [
        ("email", ANNA_MAIL, "granted"), ("tracking", ANNA_MAIL, "granted"), ("sms", ANNA, "granted"),
        ("whatsapp", ANNA, "granted"),
    ]  # fmt: skip
    assert ("sms", ANNA, "revoked") in consents
    assert consents[-1] == ("whatsapp", NEW, "granted")


async def test_visitors_are_bound_moved_and_left_alone(shop_world: World, database_url: str) -> None:
    shop = await opens(shop_world)
    browser = Browser(shop_world)
    browser.become()
    anna = await says(shop, handle=await browser.handle(), email=ANNA_MAIL)
    assert anna["visitor_id"] == public_id("vis", browser.visitor)  # type: ignore[arg-type]
    assert await who(database_url, browser.visitor) == id_of(anna)
    (event,) = await shop.endpoint.hears("visitor.identified")
    assert (event.data["visitor"]["id"], event.data["visitor"]["trust"]) == (anna["visitor_id"], "declared")
    # By a code it is known better.
    await says(shop, handle=await browser.handle(), email=ANNA_MAIL, proof="one_time_code")
    (_, event) = await shop.endpoint.hears("visitor.identified", 2)
    assert event.data["visitor"]["trust"] == "verified"
    # A browser's own word never ends that.
    assert (await browser.identify(email=BEN_MAIL)).status == 204
    assert await who(database_url, browser.visitor) == id_of(anna)
    # I6: somebody else opened the link first: all of the browser's history is theirs.
    ben = await says(shop, phone=BEN)
    friend = Browser(shop_world)
    link = await plant_link(database_url, id_of(ben), to=BEN)
    await plant_click(database_url, link, friend)
    assert (await friend.load()).status == 204
    assert await who(database_url, friend.visitor) == id_of(ben)
    third = await says(shop, handle=await friend.handle(), phone=NEW)
    assert (third["rule"], third["created"]) == ("I6", True)
    assert await who(database_url, friend.visitor) == id_of(third)
    # I7: a phone-only profile declares an owned email.
    moved = await says(shop, handle=await friend.handle(), email=ANNA_MAIL)
    assert (moved["rule"], moved["contact"]["id"]) == ("I7", anna["contact"]["id"])
    assert {candidate["reason"] for candidate in moved["candidates"]} == {"I7"}
    # A fourth contact of a visitor is refused, the rest of the declaration goes on.
    for n in range(2):
        last = await says(shop, handle=await friend.handle(), email=f"p{n}@example.com")
    assert (last["created"], last["notes"]) == (True, ["over_limit"])
    assert await who(database_url, friend.visitor) is None


def deep(levels: int) -> Any:
    """A list in a list in a list."""
    made: Any = []
    for _ in range(levels):
        made = [made]
    return made


BAD: list[tuple[dict[str, Any], list[str]]] = [
    ({}, [" nothing_declared"]),
    ({"name": "Anna"}, [" nothing_declared"]),
    ({"phone": "call me"}, ["/phone invalid_phone"]),
    ({"email": "anna", "phone": "+49 12"}, ["/email invalid_email", "/phone invalid_phone"]),
    ({"external_id": "7", "consents": ["sms"]}, ["/consents no_address"]),
    ({"email": ANNA_MAIL, "consents": ["sms"]}, ["/consents no_address"]),
    ({"email": ANNA_MAIL, "consents": ["fax"]}, ["/consents/0 literal_error"]),
    ({"external_id": "7", "consents": ["tracking"]}, ["/consents no_address"]),
    ({"external_id": "7", "proof": "one_time_code"}, ["/proof no_address"]),
    ({"email": ANNA_MAIL, "proof": "word of honour"}, ["/proof literal_error"]),
    ({"email": ANNA_MAIL, "traits": {"a b": 1}}, ["/traits value_error"]),
    ({"email": ANNA_MAIL, "traits": {"long": "x" * 2001}}, ["/traits value_error"]),
    ({"email": ANNA_MAIL, "traits": {"deep": deep(300)}}, ["/traits value_error"]),
    ({"email": ANNA_MAIL, "traits": {f"t{n}": 1 for n in range(51)}}, ["/traits too_long"]),
    ({"email": ANNA_MAIL, "external_id": " "}, ["/external_id string_too_short"]),
    ({"email": "a\x00@example.com"}, ["/email value_error"]),
    ({"email": 7}, ["/email string_type"]),
    ({"email": ANNA_MAIL, "contact_id": "nobody"}, ["/contact_id value_error"]),
    ({"email": ANNA_MAIL, "colour": "red"}, ["/colour extra_forbidden"]),
]


async def test_what_cannot_be_read_creates_nothing(shop_world: World, database_url: str) -> None:
    shop = await opens(shop_world)
    for body, faults in BAD:
        answer = await shop.call("POST", "/v1/identify", body)
        assert answer.status == 422, (body, answer)
        assert [f"{fault['pointer']} {fault['code']}" for fault in answer.json["errors"]] == faults, body
    for handle, code in (("x" * 70, "invalid_handle"), ("nothing", "invalid_handle")):
        answer = await shop.call("POST", "/v1/identify", {"email": ANNA_MAIL, "handle": handle})
        assert (answer.status, answer.json["code"]) == (422, code)
    nobody = public_id("con", UUID(int=7))
    assert (await shop.call("POST", "/v1/identify", {"contact_id": nobody})).status == 404
    poor = await shop_world.service("poor")
    answer = await poor.call("POST", "/v1/identify", {"email": ANNA_MAIL})
    assert (answer.status, answer.json["scope"]) == (403, "profiles")
    assert await ask(database_url, "select count(*) from contact") == 0
    assert await ask(database_url, "select count(*) from identity_op") == 0
    # A handle is good once, and a refused request does not use it up.
    browser = Browser(shop_world)
    browser.become()
    handle = await browser.handle()
    assert (await shop.call("POST", "/v1/identify", {"phone": "12", "handle": handle})).status == 422
    assert (await says(shop, phone=ANNA, handle=handle))["created"]
    answer = await shop.call("POST", "/v1/identify", {"phone": ANNA, "handle": handle})
    assert (answer.status, answer.json["code"]) == (422, "handle_used")


async def test_a_services_own_ids_and_contacts_name_a_profile(shop_world: World, database_url: str) -> None:
    shop, crm = await opens(shop_world), await opens(shop_world, "crm")
    # An id alone makes a profile, finds it again, and is the service's own.
    first = await says(shop, external_id="7", traits={"plan": "gold", "size": {"eu": 38}})
    assert (first["created"], first["contact"]["addresses"]) == (True, [])
    assert (await says(shop, external_id="7", email=ANNA_MAIL))["contact"]["id"] == first["contact"]["id"]
    assert (await says(crm, external_id="7"))["contact"]["id"] != first["contact"]["id"]
    # An id that is not verified gives way to what the addresses say, and goes along.
    other = await says(shop, external_id="7", email=BEN_MAIL)
    assert other["contact"]["id"] != first["contact"]["id"]
    assert (await says(shop, external_id="7"))["contact"]["id"] == other["contact"]["id"]
    # One that is leads to its contact, whatever is given with it: an email is not replaced.
    await says(shop, external_id="8", email=ANNA_MAIL, proof="one_time_code")
    named = await says(shop, external_id="8", email="new@example.com")
    assert (named["contact"]["id"], named["notes"]) == (first["contact"]["id"], ["not_replaced"])
    stays = await says(shop, external_id="8", email=BEN_MAIL)
    assert (stays["contact"]["id"], stays["notes"]) == (first["contact"]["id"], ["not_taken"])
    # Two that are verified are two persons, even with one email.
    third = await says(shop, external_id="9", email=ANNA_MAIL, proof="one_time_code")
    assert (third["created"], third["notes"], third["candidates"]) == (True, ["not_taken"], [])
    # A contact's id names it too, for those who may know it.
    ann = first["contact"]["id"]
    filled = await says(shop, contact_id=ann, phone=ANNA)
    assert (filled["contact"]["id"], filled["rule"]) == (ann, "I2")
    assert (await crm.call("POST", "/v1/identify", {"contact_id": ann})).status == 404
    for body, code in (
        ({"contact_id": other["contact"]["id"], "external_id": "8"}, "external_id_taken"),
        ({"contact_id": ann, "external_id": "9", "phone": ANNA, "proof": "one_time_code"}, "external_id_taken"),
        ({"contact_id": ann, "external_id": "10", "phone": ANNA, "proof": "one_time_code"}, "verified_identities"),
    ):
        answer = await shop.call("POST", "/v1/identify", body)
        assert (answer.status, answer.json["code"]) == (409, code)
    # Traits are the service's own; null takes one back.
    await says(shop, contact_id=ann, traits={"plan": None, "size": {"eu": 39}, "vip": True})
    view = (await shop.call("GET", f"/v1/contacts/{ann}")).json
    assert {trait["name"]: trait["value"] for trait in view["traits"]} == {"size": {"eu": 39}, "vip": True}
    assert {one["external_id"]: one["verified"] for one in view["external_ids"]} == {"8": True}
    for start in (0, 50):
        answer = await shop.call(
            "POST", "/v1/identify", {"contact_id": ann, "traits": {f"t{start + n}": n for n in range(50)}}
        )
    assert (answer.status, answer.json["errors"][0]["code"]) == (422, "too_many_traits")
    assert await ask(database_url, "select count(*) from contact_trait where name like 't%'") == 50


async def test_a_repeated_request_gets_the_first_answer(shop_world: World, database_url: str) -> None:
    shop = await opens(shop_world)

    async def once(body: dict[str, Any]) -> Answer:
        return await shop.call("POST", "/v1/identify", body, **{"Idempotency-Key": "order 7"})

    browser = Browser(shop_world)
    browser.become()
    body = {"email": ANNA_MAIL, "handle": await browser.handle()}
    answers = await together(*(once(body) for _ in range(8)))
    assert [answer.status for answer in answers] == [200] * 8
    assert len({str(answer.json) for answer in answers}) == 1
    assert answers[0].json["created"]
    assert (await once({"email": BEN_MAIL})).json["code"] == "idempotency_mismatch"
    assert await ask(database_url, "select count(*) from identity_op") == 1


async def test_h5_only_those_who_may_know_of_a_profile_hear_of_it(shop_world: World) -> None:
    shop, crm = await opens(shop_world), await opens(shop_world, "crm")
    helpdesk = await opens(shop_world, "helpdesk", ["read", "reply", "automate"])
    anna = await says(shop, email=ANNA_MAIL, phone=ANNA)
    assert (await crm.call("GET", f"/v1/contacts/{anna['contact']['id']}")).status == 404
    ben = await says(crm, email=BEN_MAIL, phone=ANNA)
    assert (ben["notes"], ben["candidates"]) == (["not_taken"], []), "it may not know whose it is"
    # Once the customer writes, all services of the channel with the scope may know: it is a contact of its own.
    mia = shop_world.customer(Person(ANNA, name="Mia"))
    await writes(mia, shop, crm, helpdesk)
    theirs = crm.endpoint.of("message.received")[0].data["contact"]["id"]
    await says(shop, contact_id=theirs, traits={"vip": True})
    await crm.endpoint.wait(lambda _: told(crm, "profile.updated", theirs) != [])
    assert told(crm, "profile.updated", anna["contact"]["id"]) == []
    assert told(shop, "profile.updated", ben["contact"]["id"]) == []
    assert not any(kind.startswith("profile.") for kind in {d.type for d in helpdesk.endpoint.deliveries})


# Races --------------------------------------------------------------------------------------------------------------


async def test_races(shop_world: World, database_url: str) -> None:
    shop, crm = await opens(shop_world), await opens(shop_world, "crm")

    # 20 declarations of one number at once: one owner.
    answers = await together(*(says([shop, crm][n % 2], phone=ANNA, external_id=f"r{n}") for n in range(20)))
    assert len({answer["contact"]["id"] for answer in answers}) == 1
    assert [answer["created"] for answer in answers].count(True) == 1
    owners = "select count(*) from contact_address where value = $1 and (is_declared or is_proved)"
    assert await ask(database_url, owners, ANNA) == 1

    # 20 browsers declare one email at once: one profile, its first five visitors; and one external id, one contact.
    browsers = [Browser(shop_world) for _ in range(20)]
    for browser in browsers:
        browser.become()
    replies = await together(*(browser.identify(email=ANNA_MAIL) for browser in browsers))
    assert {reply.status for reply in replies} == {204}
    assert await ask(database_url, "select count(*) from contact_address where value = $1", ANNA_MAIL) == 1
    bound = {await who(database_url, browser.visitor) for browser in browsers} - {None}
    assert len(bound) == 1
    assert await ask(database_url, "select count(*) from visitor_binding where retracted_at is null") == 5
    found = await together(*(says(shop, external_id="same") for _ in range(10)))
    assert len({answer["contact"]["id"] for answer in found}) == 1

    # Merge against declarations of either side's addresses: all of them of one world or the other, never in between.
    for n in range(4):
        left = await says(shop, email=f"l{n}@example.com", phone=f"+49151333333{n}0")
        right = await says(shop, phone=f"+49151333333{n}1")
        steps: list[Callable[[], Awaitable[Any]]] = [
            lambda left=left, right=right: shop_world.call(  # type: ignore[misc]
                "POST", f"/v1/admin/contacts/{left['contact']['id']}/merge", {"contact_id": right["contact"]["id"]}
            ),
            *(lambda n=n, i=i: says(shop, email=f"l{n}@example.com", phone=f"+49151333333{n}{i % 3}")  # type: ignore[misc]
              for i in range(6)),
        ]  # fmt: skip
        merged, *declared = await asyncio.gather(*(step() for step in steps))
        assert merged.status == 200, merged
        assert {answer["contact"]["id"] for answer in declared} == {left["contact"]["id"]}
        parts = [id_of(left), id_of(right)]
        sql = """select count(*) from contact_address where contact_id = any($1::uuid[]) and removed_at is null
                 and type = 'phone' group by match_key having count(*) > 1"""
        assert await ask(database_url, sql, parts) is None
    assert await ask(database_url, "select count(*) from contact where merged_into is not null") == 4
