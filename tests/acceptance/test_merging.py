"""Merging contacts, and undoing what was done to them: who may, what is against it, who hears of it (rules I, H5)."""

from typing import Any
from urllib.parse import quote

import pytest

from hub.domain.ids import parse_id
from providers.simulator import Person
from tests.support.profiles import (
    ANNA,
    ANNA_MAIL,
    BEN,
    BEN_MAIL,
    NEW,
    PROFILES,
    SHOP,
    addresses,
    opens,
    says,
    status,
)
from tests.support.talk import pages, writes
from tests.support.web import Browser, together, who
from tests.support.wire import ask
from tests.support.world import NUMBER, Answer, Open, Service, World

SMS: dict[str, Any] = {"provider": "twilio", "medium": "sms"}


@pytest.fixture
async def shop_world(open_world: Open) -> World:
    return await open_world(**SHOP)


async def merges(who: World | Service, kept: str, absorbed: str) -> Answer:
    admin = "admin/" if isinstance(who, World) else ""
    return await who.call("POST", f"/v1/{admin}contacts/{kept}/merge", {"contact_id": absorbed})


async def undoes(who: World | Service, operation: str) -> Answer:
    admin = "admin/" if isinstance(who, World) else ""
    return await who.call("POST", f"/v1/{admin}identity-operations/{operation}/undo")


async def candidates(who: World | Service) -> list[dict[str, Any]]:
    admin = "admin/" if isinstance(who, World) else ""
    return await pages(lambda path: who.call("GET", path), f"/v1/{admin}merge-candidates?limit=2")


async def operations(who: World | Service, contact: str) -> list[dict[str, Any]]:
    admin = "admin/" if isinstance(who, World) else ""
    path = f"/v1/{admin}contacts/{contact}/operations?limit=2"
    return await pages(lambda path: who.call("GET", path), path, "before")


def pair(candidate: dict[str, Any]) -> set[str]:
    return {contact["id"] for contact in candidate["contacts"]}


def code(answer: Answer) -> Any:
    return answer.json["code"]


async def contact_of(service: Service, text: str) -> str:
    """Whom a service heard say this."""
    found = [d.data for d in service.endpoint.of("message.received") if d.data["message"].get("text") == text]
    return str(found[-1]["contact"]["id"])


async def test_b8_a_customer_writes_from_an_address_that_others_were_said_to_have(
    shop_world: World, database_url: str
) -> None:
    shop = await opens(shop_world)
    said = await says(shop, email=ANNA_MAIL, phone=ANNA)
    browser = Browser(shop_world)
    browser.become()
    await says(shop, handle=await browser.handle(), email=BEN_MAIL)
    assert (await browser.identify(phone=BEN)).status == 204
    customers = [shop_world.customer(Person(phone, name="Mia"), **SMS) for phone in (ANNA, BEN)]
    for n, customer in enumerate(customers):
        await writes(customer, shop, text=f"hello {n}")
    anna, ben = [await contact_of(shop, f"hello {n}") for n in range(2)]
    assert len({anna, ben, said["contact"]["id"]}) == 3
    declared, typed = await candidates(shop)
    assert [(c["reason"], c["proper"]) for c in (declared, typed)] == [
        ("declared_address", True),
        ("declared_address", False),
    ]
    assert (pair(declared), ben in pair(typed)) == ({anna, said["contact"]["id"]}, True)
    assert addresses({"contact": (await says(shop, email=ANNA_MAIL))["contact"]}) == {ANNA_MAIL}, "proved by another"
    # A second message notes nothing more, nor does anything once they are one.
    await writes(customers[0], shop, text="again")
    assert (await merges(shop_world, anna, said["contact"]["id"])).status == 200
    assert [pair(c) for c in await candidates(shop)] == [pair(typed)]
    # Used by its own contact, what was declared is proved; undoing the declaration leaves that.
    bo = Person(NEW, user_id="US.13491208655302741918", name="Bo")
    quiet = Person(None, user_id="US.13491208655302741918", name="Bo")
    await writes(shop_world.customer(quiet), shop, text="hidden")
    contact = await contact_of(shop, "hidden")
    filled = await says(shop, contact_id=contact, phone=NEW)
    await writes(shop_world.customer(bo), shop, text="shown")
    assert await contact_of(shop, "shown") == contact
    assert (await undoes(shop_world, filled["operation_id"])).status == 200
    sql = "select is_proved::text || is_declared::text from contact_address where value = $1"
    assert await ask(database_url, sql, NEW) == "truefalse"


async def test_only_the_operator_or_the_parent_of_every_channel_merges(shop_world: World) -> None:
    shop, crm = await opens(shop_world), await opens(shop_world, "crm")
    solo = await shop_world.service("solo", plan="standalone", scopes=PROFILES)
    await solo.connect()
    mia = shop_world.customer(Person(ANNA, name="Mia"), **SMS)
    bo = shop_world.customer(Person(BEN, name="Bo"), **SMS)
    await writes(mia, shop, crm, solo, text="from Mia")
    await writes(bo, shop, crm, solo, text="from Bo")
    ids = [await contact_of(shop, text) for text in ("from Mia", "from Bo")]
    # Two channels, two parents: neither may.
    for service in (shop, crm, solo):
        answer = await merges(service, *ids)
        assert (answer.status, code(answer)) == (403, "merge_not_allowed")
    await shop_world.call("DELETE", f"/v1/admin/services/{solo.id}")
    stranger = await says(crm, email=ANNA_MAIL)
    answer = await merges(shop, ids[0], stranger["contact"]["id"])
    assert answer.status == 404, "what it may not know is not there"
    assert (await merges(crm, ids[0], stranger["contact"]["id"])).status == 403
    poor = await opens(shop_world, "poor", ["read", "reply"])
    for method, path in (
        ("GET", "merge-candidates"),
        ("POST", f"contacts/{ids[0]}/merge"),
        ("GET", f"contacts/{ids[0]}/operations"),
        ("POST", f"identity-operations/{ids[0]}/undo"),
    ):
        assert code(await poor.call(method, f"/v1/{path}")) == "missing_scope"
        assert code(await shop.call(method, f"/v1/admin/{path}")) == "operator_only"
    # Nobody and nothing.
    for answer in (
        await merges(shop_world, ids[0], f"con_{7:032x}"), await undoes(shop_world, f"op_{7:032x}"),
        await shop_world.call("POST", f"/v1/admin/identity-operations/{ids[0]}/undo"),
        await shop_world.call("GET", f"/v1/admin/contacts/con_{7:032x}/operations"),
    ):  # fmt: skip
        assert (answer.status, code(answer)) == (404, "not_found")
    answer = await shop_world.call("POST", f"/v1/admin/contacts/{ids[0]}/merge", {"contact_id": "nobody"})
    assert answer.status == 422
    assert code(await merges(shop_world, ids[0], ids[0])) == "already_merged"
    answer = await shop_world.call("GET", "/v1/admin/merge-candidates?after=nothing")
    assert answer.status == 404


async def test_a_merge_and_its_undo(shop_world: World, database_url: str) -> None:
    shop, crm = await opens(shop_world), await opens(shop_world, "crm")
    mia = shop_world.customer(Person(ANNA, name="Mia"), **SMS)
    await writes(mia, shop, crm)
    phone = await contact_of(shop, "Hello")
    browser = Browser(shop_world)
    browser.become()
    mail = await says(shop, email=ANNA_MAIL, handle=await browser.handle())
    suggested = await says(shop, email=ANNA_MAIL, phone=ANNA)
    (candidate,) = await candidates(shop)
    assert pair(candidate) == {phone, mail["contact"]["id"]}
    assert [c["id"] for c in await candidates(shop_world)] == [candidate["id"]]
    assert await candidates(crm) == [], "it may know only one of the two"
    ids = mail["contact"]["id"], phone
    merged = await merges(shop, *ids)
    assert (merged.status, merged.json["merged_id"]) == (200, phone)
    assert addresses(merged.json) == {ANNA, ANNA_MAIL}
    assert await candidates(shop_world) == []
    for service in (shop, crm):
        (event,) = await service.endpoint.hears("profile.merged")
        assert event.data["merge"] == {
            "contact_id": ids[0], "merged_id": phone, "operation_id": merged.json["operation_id"], "by": shop.id,
        }  # fmt: skip
    assert code(await merges(shop, *ids)) == "already_merged"
    # They are one now: what is said of either goes to both.
    both = await says(shop, email=ANNA_MAIL, phone=ANNA, consents=["sms"])
    assert (both["contact"]["id"], both["notes"]) == (ids[0], [])
    assert await status(shop, "sms", ANNA) == "granted"
    assert (await crm.call("GET", f"/v1/contacts/{phone}")).json["id"] == ids[0]
    ledger = await operations(shop, phone)
    assert [(op["kind"], op["rule"]) for op in ledger] == [
        ("declaration", "I4"), ("merge", "merged"), ("declaration", "I4"), ("declaration", "I1"),
    ]  # fmt: skip
    assert [(op["service"] or {}).get("id") for op in ledger] == [shop.id] * 4
    assert ledger == await operations(shop_world, ids[0])
    # Undone, each has what is its own, and the candidate is back.
    assert (await undoes(shop, merged.json["operation_id"])).status == 200
    assert code(await undoes(shop, merged.json["operation_id"])) == "already_undone"
    for service in (shop, crm):
        await service.endpoint.hears("profile.unmerged")
    assert (await crm.call("GET", f"/v1/contacts/{ids[0]}")).status == 404
    assert [c["id"] for c in await candidates(shop)] == [candidate["id"]]
    assert await status(shop, "sms", ANNA) == "granted", "no merge moves consent, and none takes it along"
    assert code(await undoes(shop, both["operation_id"])) == "merge_not_allowed", "the email's profile has no channel"
    assert (await undoes(shop_world, both["operation_id"])).status == 200
    assert await status(shop, "sms", ANNA) == "unknown"
    assert (await undoes(shop, suggested["operation_id"])).status == 200
    assert await candidates(shop_world) == []
    # With what made it, a profile is gone.
    assert (await undoes(shop_world, mail["operation_id"])).status == 200
    assert (await shop_world.call("GET", f"/v1/admin/contacts/{ids[0]}")).status == 404
    assert await who(database_url, browser.visitor) is None
    trail = (await shop_world.call("GET", "/v1/admin/audit")).json["items"]
    done = [(row["actor"], row["action"], row["subject"]) for row in trail if row["action"].startswith("identity.")]
    assert done == [("operator", "identity.undone", one["operation_id"]) for one in (both, mail)]


async def test_undoing_goes_from_the_last_to_the_first(shop_world: World, database_url: str) -> None:
    shop = await opens(shop_world)
    steps = [
        await says(shop, email=ANNA_MAIL, phone=ANNA, consents=["sms", "tracking"]),
        await says(shop, email=ANNA_MAIL, phone=NEW),
        await says(shop, phone=ANNA, email=BEN_MAIL),
    ]
    done = [step["operation_id"] for step in steps]
    refused = await undoes(shop_world, done[0])
    assert (refused.status, code(refused), refused.json["operations"]) == (409, "undo_order", [done[2], done[1]])
    assert await status(shop, "sms", ANNA) == "revoked"
    assert (await undoes(shop_world, done[2])).status == 200
    assert (await undoes(shop_world, done[1])).status == 200
    event = (await shop.endpoint.hears("profile.updated", 4))[-1]
    assert event.data["profile"] == {
        "changed": ["addresses", "consents"], "rule": "undone", "operation_id": done[1],
    }  # fmt: skip
    assert {address["value"] for address in event.data["contact"]["addresses"]} == {ANNA_MAIL, ANNA}
    assert await status(shop, "sms", ANNA) == "granted"
    # Twenty at once: one of them does it.
    answers = await together(*(undoes(shop_world, done[0]) for _ in range(20)))
    assert sorted(answer.status for answer in answers) == [200] + [409] * 19
    assert {code(answer) for answer in answers if answer.status == 409} == {"already_undone"}
    for table in ("contact", "contact_address", "merge_candidate", "contact_knower"):
        assert await ask(database_url, f"select count(*) from {table}") == 0, table
    assert await status(shop, "tracking", ANNA_MAIL) == "unknown"
    # What has come to use since is not taken back: a message was sent to what a code had proved, and to what was only
    # declared, where it made a contact of its own.
    used, said = await says(shop, phone=ANNA, proof="one_time_code"), await says(shop, phone=BEN)
    for to in (ANNA, BEN):
        body = {"from": NUMBER, "medium": "sms", "to": to, "origin": "agent", "type": "text", "text": "Hi",
                "agent": {"id": "ana", "name": "Ana"}}  # fmt: skip
        assert (await shop.call("POST", "/v1/messages", body)).status == 202
    assert [pair(c) >= {said["contact"]["id"]} for c in await candidates(shop)] == [True]
    refused = await undoes(shop_world, used["operation_id"])
    assert (refused.status, code(refused)) == (409, "in_use")
    assert (await shop_world.call("GET", f"/v1/admin/contacts/{used['contact']['id']}")).status == 200
    assert (await undoes(shop_world, said["operation_id"])).status == 200
    assert await candidates(shop_world) == []


async def test_verified_identities_of_one_service_are_never_merged(open_world: Open) -> None:
    world = await open_world(**SHOP, auto_merge=True)
    shop = await opens(world)
    first = await says(shop, external_id="1", email=ANNA_MAIL, proof="one_time_code")
    second = await says(shop, external_id="2", phone=ANNA, proof="one_time_code")
    answer = await merges(world, first["contact"]["id"], second["contact"]["id"])
    assert (answer.status, code(answer)) == (409, "verified_identities")
    # Nor by the switch, which merges everybody else that is properly suggested.
    both = await says(shop, email=ANNA_MAIL, phone=ANNA)
    assert [pair(c) for c in await candidates(world)] == [{first["contact"]["id"], second["contact"]["id"]}]
    assert addresses(both) == {ANNA_MAIL}
    third = await says(shop, phone=BEN, consents=["sms"])
    one = await says(shop, email=BEN_MAIL)
    assert (await says(shop, email=BEN_MAIL, phone=BEN))["contact"]["id"] == one["contact"]["id"]
    (event,) = await shop.endpoint.hears("profile.merged")
    assert (event.data["merge"]["by"], event.data["merge"]["merged_id"]) == ("switch", third["contact"]["id"])
    assert addresses(await says(shop, email=BEN_MAIL)) == {BEN, BEN_MAIL}
    assert await status(shop, "sms", BEN) == "granted"
    assert (await undoes(world, event.data["merge"]["operation_id"])).status == 200
    assert addresses(await says(shop, email=BEN_MAIL)) == {BEN_MAIL}
    consents = await shop.call("GET", f"/v1/consents/sms/{quote(BEN)}")
    assert consents.json["status"] == "granted"
    # A browser's word merges nobody.
    browser = Browser(world)
    browser.become()
    assert (await browser.identify(phone=BEN)).status == 204
    assert (await browser.identify(email=ANNA_MAIL)).status == 204
    assert len(shop.endpoint.of("profile.merged")) == 1
    assert parse_id("con", one["contact"]["id"])


async def test_what_was_erased_does_not_come_back(shop_world: World) -> None:
    shop = await opens(shop_world)
    anna = await says(shop, email=ANNA_MAIL)
    # An unconfirmed copy of Ben's phone goes to its owner, who is erased then.
    browser = Browser(shop_world)
    browser.become()
    moved = await says(shop, email=ANNA_MAIL, handle=await browser.handle())
    assert (await browser.identify(phone=BEN)).status == 204
    (typed, *_) = await operations(shop_world, anna["contact"]["id"])
    ben = await says(shop, email=BEN_MAIL, phone=BEN)
    assert [c["reason"] for c in ben["candidates"]] == ["displaced"]
    merged = await merges(shop_world, ben["contact"]["id"], (await says(shop, phone=NEW))["contact"]["id"])
    path = f"/v1/admin/contacts/{ben['contact']['id']}"
    assert (await shop_world.call("DELETE", path)).status == 200
    for operation in (ben["operation_id"], merged.json["operation_id"], typed["id"]):
        refused = await undoes(shop_world, operation)
        assert (refused.status, code(refused)) == (409, "not_undoable")
    assert code(await merges(shop_world, anna["contact"]["id"], ben["contact"]["id"])) == "not_found"
    assert (await shop.call("POST", "/v1/identify", {"contact_id": ben["contact"]["id"], "phone": ANNA})).status == 404
    assert await candidates(shop_world) == []
    again = await says(shop, email=BEN_MAIL)
    assert (again["created"], again["contact"]["id"] != ben["contact"]["id"]) == (True, True)
    # What the erased contact was no part of can be undone all the same.
    for operation in (again["operation_id"], moved["operation_id"]):
        assert (await undoes(shop_world, operation)).status == 200


async def test_h5_a_parent_undoes_nothing_of_contacts_that_it_may_not_know(shop_world: World) -> None:
    shop, other = await opens(shop_world), await opens(shop_world, "other")
    await writes(shop_world.customer(Person(ANNA)), shop)
    theirs = await says(other, email=BEN_MAIL, phone=ANNA, traits={"likes": "tea"})
    assert (await shop.call("GET", f"/v1/contacts/{theirs['contact']['id']}")).status == 404
    refused = await undoes(shop, theirs["operation_id"])
    assert (refused.status, code(refused)) == (403, "merge_not_allowed")
    assert (await other.call("GET", f"/v1/contacts/{theirs['contact']['id']}")).status == 200
    await says(shop, email=BEN_MAIL)
    assert (await undoes(shop, theirs["operation_id"])).status == 200


async def test_what_was_said_of_a_merged_contact_is_its_own_when_that_is_undone(shop_world: World) -> None:
    """H5: who has identified one of two contacts knows that one, whatever they were merged with then."""
    shop, other = await opens(shop_world), await opens(shop_world, "other")
    kept, absorbed = [(await says(shop, email=mail))["contact"]["id"] for mail in (ANNA_MAIL, BEN_MAIL)]
    operation = (await merges(shop_world, kept, absorbed)).json["operation_id"]
    said = await says(other, email=BEN_MAIL, external_id="b7", name="Ben", traits={"likes": "tea"})
    assert said["contact"] == {
        "id": kept, "name": "Ben",
        "addresses": [{"type": "email", "value": ANNA_MAIL}, {"type": "email", "value": BEN_MAIL}],
    }  # fmt: skip
    assert (await undoes(shop_world, operation)).status == 200
    for contact, found, brought in ((kept, 404, ([], [], None)), (absorbed, 200, (["b7"], ["likes"], "Ben"))):
        assert (await other.call("GET", f"/v1/contacts/{contact}")).status == found
        view = (await shop_world.call("GET", f"/v1/admin/contacts/{contact}")).json
        ids, traits = [one["external_id"] for one in view["external_ids"]], [one["name"] for one in view["traits"]]
        assert (ids, traits, view["name"]) == brought
