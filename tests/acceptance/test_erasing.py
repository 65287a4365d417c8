"""A customer is erased: nothing readable is left, ids and order are, and what they refused is still refused (H5)."""

import asyncio
import io
import json
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hub.actions.ledger import Entry, record
from hub.domain.addresses import Address
from hub.domain.bindings import Bind, Trust
from hub.domain.change_codec import Written, encode
from hub.domain.erasing import CONTENT
from hub.domain.identity import Create, Fill
from hub.domain.profiles import Standing
from hub.store.identity_locks import lock_contacts, lock_visitors
from hub.store.identity_ops import lock
from providers.simulator import Customer, Person, StatusPlan
from tests.support.people import NOW, SCOPES, People, ago, con, get, vis
from tests.support.scenes import SETTINGS, Shop, page, phone
from tests.support.talk import audit, automates, ends, heard, operator_events, revealed_events, timeline, writes
from tests.support.wire import Wire, ask, connected, until
from tests.support.world import NUMBER, Answer, Open, Service, World

SMS: dict[str, Any] = {"provider": "twilio", "medium": "sms"}
MIA = Person("+4915112345678", user_id="DE.4711224477", name="Mia §")
EMAIL = Address("email", "mia-secret@example.com")
SHOP = "https://shop.example/secret"
TRACES = ("§", "15112345678", "DE.4711224477", "mia-secret", "shop.example/secret", "of the customer", "§.pdf", "wamid")
"""None of this may be found anywhere."""


def code(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json["code"]


async def cast(world: World) -> tuple[Service, Service]:
    """Two services of one channel that may know of profiles; the first is its parent."""
    services = [await world.service(name, scopes=SCOPES) for name in ("helpdesk", "crm")]
    for service in services:
        await service.connect()
    return services[0], services[1]


async def erase(world: World, contact: str) -> Any:
    answer = await world.call("DELETE", f"/v1/admin/contacts/{contact}")
    assert answer.status == 200, answer
    return answer.json


async def contact_of(service: Service, conversation: str) -> str:
    return str((await get(service, f"/v1/conversations/{conversation}"))["contact"]["id"])


async def uploaded(service: Service, data: bytes) -> str:
    url = f"{service.world.hub.url}/v1/media?filename={quote('§.pdf')}"
    headers = {"Authorization": f"Bearer {service.key}", "Content-Type": "application/pdf"}
    async with service.world.session.post(url, data=io.BytesIO(data), headers=headers) as answer:
        assert answer.status == 201
        return str((await answer.json())["id"])


def files(folder: Path) -> int:
    return sum(path.is_file() for path in (folder / "media").rglob("*"))


async def found(database_url: str) -> dict[str, list[str]]:
    """Where which traces of the customer are."""
    async with connected(database_url) as conn:
        everything = await People(conn).text_of_everything()
    seen = {name: [trace for trace in TRACES if trace in rows] for name, rows in everything.items()}
    return {name: traces for name, traces in seen.items() if traces}


async def talked(world: World, helpdesk: Service, crm: Service) -> tuple[str, str, str, list[str]]:
    """Mia has said and been sent all sorts of things: her contact, her conversations, and what waits to be sent."""
    chat, sms = world.customer(MIA), world.customer(MIA, **SMS)
    conversation = await writes(chat, helpdesk, crm, text="§ hello")
    short = await writes(sms, helpdesk, crm, text="§ by SMS")
    name = helpdesk.endpoint.of("message.received")[0].data["message"]["provider_id"]
    await chat.edits(name, "§ hello there")
    await chat.reacts(name, "§")
    key = {"Idempotency-Key": "once"}
    sent = await crm.reply(conversation, "§ answer", headers=key)
    await ends(crm, sent.json["message"]["id"], "read")
    file = {"id": await uploaded(crm, b"%PDF secret")}
    media = {"origin": "agent", "agent": {"id": "7"}, "type": "document", "media": file}
    told = await crm.call("POST", f"/v1/conversations/{conversation}/messages", media)
    assert told.status == 202, told
    await ends(crm, told.json["message"]["id"], "read")
    await crm.call("POST", f"/v1/conversations/{conversation}/pickup", {"agent": {"id": "7", "name": "Ana"}})
    note = {"to": helpdesk.id, "agent": {"id": "7", "name": "Ana"}, "note": "§ note"}
    passed = await crm.call("POST", f"/v1/conversations/{conversation}/pass", note)
    assert passed.status in {200, 201}, passed
    at = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    later = await automates(helpdesk, conversation, "§ later", "scheduled", send_at=at)
    assert later.status == 202, later
    return await contact_of(crm, conversation), conversation, short, [later.json["message"]["id"]]


async def test_h5_nothing_readable_is_left(hub_world: World, database_url: str, tmp_path: Path) -> None:
    helpdesk, crm = await cast(hub_world)
    contact, conversation, short, waiting = await talked(hub_world, helpdesk, crm)
    async with connected(database_url) as conn:
        people = People(conn)
        part, stranger = await people.contact("§ part"), await people.contact("Somebody else")
        await people.has(part, EMAIL, "declared")
        await people.has(part, Address("phone", MIA.phone or ""), "unconfirmed")
        await people.known_to(part, crm, "§-7", likes='"§"')
        await people.merge(part, contact)
        visitor, shared = await people.visitor(), await people.visitor()
        link = await people.link(part, SHOP, crm, message=waiting[0], channel=crm.connection["channel_id"])
        await conn.execute("update tracked_link set destination_type = 'email', destination_value = $1", EMAIL.value)
        await people.bind(visitor, part, ago(hours=5), link=link)
        await people.bind(shared, contact, ago(hours=5), ago(hours=4))
        await people.bind(shared, stranger, ago(hours=4))
        await people.visit(visitor, ago(hours=3), SHOP)
        await people.visit(shared, ago(hours=4.5), SHOP)
        await people.visit(shared, ago(hours=2), "https://shop.example/of-the-other")
        await people.click(link, visitor, ago(hours=3.1))
        changes = [
            Create(con(part), "I1"),
            Fill(con(part), EMAIL, Standing.DECLARED, "I1"),
            Bind(vis(visitor), con(part), ago(days=9), ago(days=8), Trust.CLICK, NOW, "K3"),
        ]
        async with conn.transaction():  # written into the ledger, and into no table
            await record(conn, Entry("declaration", "service", "I1", NOW, contact_id=con(part)), changes[2:])
            await conn.execute(
                "update identity_op set changes = $1 where position = (select max(position) from identity_op)",
                encode([Written(change) for change in changes]),
            )
        await conn.execute(
            "insert into merge_candidate (id, contact_id, other_contact_id, reason)"
            " values (gen_random_uuid(), least($1::uuid, $2), greatest($1::uuid, $2), 'test')",
            con(contact), con(stranger),
        )  # fmt: skip
    await crm.call("PUT", f"/v1/consents/email/{EMAIL.value}", {"status": "granted", "evidence": "§ form"})
    await crm.call("PUT", f"/v1/consents/tracking/{EMAIL.value}", {"status": "revoked", "evidence": "§ form"})
    assert (await Wire(hub_world).meta('{"from": "4915112345678", "text": "§ cut'.encode())).status == 200
    assert await ask(database_url, "select count(*) from quarantine") == 1

    # Before: the operator has all of it, a service what it brought.
    whole = await get(hub_world, f"/v1/admin/contacts/{part}/export")
    assert {"§ hello there", "§ answer", "§ by SMS"} <= {
        message.get("text") for talk in whole["conversations"] for message in talk["messages"]
    }
    assert whole["contact"]["id"] == contact
    said = {(entry["kind"], entry["evidence"]) for entry in whole["consent_history"]}
    assert said == {("granted", "§ form"), ("revoked", "§ form")}
    assert [visit["url"] for visit in whole["visits"]] == [SHOP, SHOP]
    assert [click["link"]["target"] for click in whole["clicks"]] == [SHOP]
    assert [sent["target"] for sent in whole["links"]] == [SHOP]
    assert [op["kind"] for op in whole["operations"]] == ["declaration"]
    own = await get(crm, f"/v1/contacts/{part}/export")
    assert (own["external_ids"][0]["external_id"], own["traits"][0]["value"]) == ("§-7", "§")
    assert set(own) == {"contact", "external_ids", "traits"}
    theirs = await get(helpdesk, f"/v1/contacts/{part}/export")
    assert (theirs["external_ids"], theirs["traits"]) == ([], [])
    assert (await found(database_url)).keys() >= {
        "contact", "contact_address", "message", "event", "conversation", "web_event", "click", "tracked_link",
        "identity_op", "consent_event", "idempotency_key", "quarantine.raw", "passed_conversation", "media",
    }  # fmt: skip
    before = await timeline(crm, conversation, "?limit=200")
    assert files(tmp_path) == 1

    view = await erase(hub_world, part)  # by whichever of its contacts
    assert (view["id"], view["name"], view["addresses"], view["erased"]) == (part, None, [], True)
    left = await found(database_url)
    assert left == {"tracked_link": ["shop.example/secret"]}, left  # where a link leads, that nobody is named with
    assert files(tmp_path) == 0

    # Ids, order and what is not the customer's are as they were.
    after = await timeline(crm, conversation, "?limit=200")
    assert [(m["id"], m["sequence"], m["type"], m["author"]) for m in after] == [
        (m["id"], m["sequence"], m["type"], m["author"]) for m in before
    ]
    assert all(m["erased"] for m in after)
    for service in (helpdesk, crm):
        assert all(m["erased"] for m in await timeline(service, short))
        told = await get(service, "/v1/events?limit=200")
        assert "§" not in json.dumps(told, ensure_ascii=False)
        kinds = [item["type"] for item in told["items"] if item["data"].get("erased") or "message" in item["data"]]
        assert {"message.received", "message.edited", "reaction.changed", "conversation.passed"} <= set(kinds)
        assert all(i["data"]["message"]["erased"] for i in told["items"] if "message" in i["data"])
        events = await service.endpoint.hears("profile.erased", 2)
        assert {e.data["conversation"]["id"] for e in events} == {conversation, short}
        assert {e.data["contact"]["id"] for e in events} == {contact}
        assert events[0].data["contact"] == {"id": contact, "name": None, "addresses": [], "erased": True}
        (cancelled,) = [d.data["message"] for d in service.endpoint.of("message.status")
                        if d.data["message"]["id"] == waiting[0]]  # fmt: skip
        assert (cancelled["status"], cancelled["erased"]) == ("cancelled", True)
    sequences = [e["data"]["conversation"]["sequence"] for e in await operator_events(hub_world)
                 if e["data"].get("conversation", {}).get("id") == conversation]  # fmt: skip
    numbered = sorted(sequence for sequence in sequences if sequence)
    assert numbered == list(range(1, len(numbered) + 1))
    assert "§" not in json.dumps(await revealed_events(hub_world), ensure_ascii=False)
    profile = await get(crm, f"/v1/contacts/{contact}")
    assert (profile["erased"], profile["name"], profile["addresses"], profile["tracked"]) == (True, None, [], False)
    assert (profile["bindings"], profile["traits"], profile["candidates"]) == ([], [], [])
    visits = (await get(hub_world, f"/v1/admin/visitors/{shared}"))["visits"]
    assert [visit["url"] for visit in visits] == ["https://shop.example/of-the-other"]
    again = await crm.reply(conversation, "§ answer", headers={"Idempotency-Key": "once"})
    assert (again.status, again.json["message"]["erased"]) == (202, True)
    rows = [row for row in await audit(hub_world) if row["action"].startswith("contact.")]
    assert [(row["action"], row["subject"]) for row in rows] == [
        ("contact.exported", contact),
        ("contact.erased", contact),
    ]
    ledger = "select count(*) from identity_op where kind = 'erasure' and undone_at is null"
    assert await ask(database_url, ledger) == 1
    # Once more changes nothing, and nothing can be done with what is left.
    assert (await erase(hub_world, contact))["erased_at"] == view["erased_at"]
    assert await ask(database_url, ledger) == 1
    assert code(await crm.reply(short, "still there?")) == (409, "contact_erased")
    assert code(await hub_world.call("DELETE", f"/v1/admin/contacts/con_{'0' * 32}")) == (404, "not_found")
    assert code(await crm.call("DELETE", f"/v1/admin/contacts/{contact}")) == (403, "operator_only")


async def test_h5_who_writes_again_is_somebody_new_and_what_was_refused_still_is(
    hub_world: World, database_url: str
) -> None:
    helpdesk, crm = await cast(hub_world)
    chat, sms = hub_world.customer(MIA), hub_world.customer(MIA, **SMS)
    await writes(sms, helpdesk, crm, text="§ by SMS")
    conversation = await writes(chat, helpdesk, crm, text="§ one")
    contact = await contact_of(crm, conversation)
    assert MIA.phone is not None
    await crm.call("PUT", f"/v1/consents/whatsapp/{MIA.phone}", {"status": "granted", "evidence": "§ form"})
    await sms.says("STOP")
    await helpdesk.endpoint.wait(lambda me: any("keyword" in d.data["consent"] for d in me.of("consent.changed")))
    await erase(hub_world, contact)
    # Nobody's address, and still not to be written to; what was granted is forgotten.
    view = await get(crm, f"/v1/consents/sms/{MIA.phone}")
    assert (view["status"], [entry["kind"] for entry in view["history"]]) == ("revoked", ["stop"])
    assert (await get(crm, f"/v1/consents/whatsapp/{MIA.phone}"))["status"] == "unknown"
    assert (await get(crm, f"/v1/contacts?address={quote(MIA.phone)}"))["items"] == []
    body = {"from": NUMBER, "to": MIA.phone, "medium": "sms", "origin": "agent", "agent": {"id": "1"}}
    assert code(await crm.call("POST", "/v1/messages", body | {"type": "text", "text": "Hi"})) == (409, "no_consent")
    # A new contact with a new conversation.
    again = await writes(chat, helpdesk, crm, text="It is me again")
    known = await contact_of(crm, again)
    assert (again != conversation, known != contact) == (True, True)
    event = next(d.data for d in crm.endpoint.of("message.received") if heard(d.data, "It is me again"))
    assert event["conversation"]["sequence"] == 1
    assert (await crm.reply(again, "Welcome")).status == 202
    assert (await chat.hears()).text == "Welcome"
    assert len(await timeline(crm, again)) == 2
    # Who stopped may start.
    await writes(sms, helpdesk, crm, text="START")
    assert (await get(crm, f"/v1/consents/sms/{MIA.phone}?number={quote(NUMBER)}"))["status"] == "unknown"
    assert (await get(crm, f"/v1/consents/sms/{MIA.phone}"))["status"] == "revoked"
    await erase(hub_world, known)
    assert (await get(crm, f"/v1/consents/sms/{MIA.phone}?number={quote(NUMBER)}"))["status"] == "unknown"
    assert (await get(crm, f"/v1/consents/sms/{MIA.phone}"))["status"] == "revoked"


async def test_h5_what_another_has_too_is_the_other_s(hub_world: World, database_url: str) -> None:
    """Consent is kept under an address: who erases a contact to which it was only ascribed takes nobody's away."""
    _, crm = await cast(hub_world)
    phone = Address("phone", MIA.phone or "")
    async with connected(database_url) as conn:
        people = People(conn)
        owner, typed, before = [await people.contact() for _ in range(3)]
        await people.has(owner, phone, "proved")
        await people.has(typed, phone, "unconfirmed")
        await people.has(before, phone, "declared")
        await conn.execute("update contact_address set removed_at = now() where contact_id = $1", con(before))
    await crm.call("PUT", f"/v1/consents/sms/{phone.value}", {"status": "granted", "evidence": "form"})
    for contact in (typed, before):
        await erase(hub_world, contact)
        view = await get(crm, f"/v1/consents/sms/{phone.value}")
        assert [(entry["kind"], entry["evidence"]) for entry in view["history"]] == [("granted", "form")]
    having = (await get(hub_world, f"/v1/admin/contacts?address={quote(phone.value)}"))["items"]
    assert [item["id"] for item in having] == [owner]
    await erase(hub_world, owner)
    assert (await get(crm, f"/v1/consents/sms/{phone.value}"))["history"] == []


async def test_h5_a_service_erases_what_it_brought_itself(hub_world: World, database_url: str) -> None:
    helpdesk, crm = await cast(hub_world)
    conversation = await writes(hub_world.customer(MIA), helpdesk, crm)
    contact = await contact_of(crm, conversation)
    async with connected(database_url) as conn:
        people = People(conn)
        part = await people.contact()
        await people.known_to(contact, crm, "c7", vip="true")
        await people.known_to(part, crm, "c8", likes="1")
        await people.known_to(contact, helpdesk, "h7", vip="false")
        await people.merge(part, contact)
    gone = await crm.call("DELETE", f"/v1/contacts/{contact}")
    assert (gone.status, gone.json) == (200, {"id": contact, "external_ids": 2, "traits": 2})
    view = await get(hub_world, f"/v1/admin/contacts/{contact}")
    assert [entry["external_id"] for entry in view["external_ids"]] == ["h7"]
    assert [(trait["name"], trait["value"]) for trait in view["traits"]] == [("vip", False)]
    assert (view["name"], view["erased"]) == ("Mia §", False)
    assert (await timeline(crm, conversation))[0]["text"] == "Hello"
    assert [row["action"] for row in await audit(hub_world)][-1] == "contact.own_data_erased"
    stranger, poor = await hub_world.service("stranger", scopes=SCOPES), await hub_world.service("poor")
    await poor.connect()
    for method, path in (("DELETE", f"/v1/contacts/{contact}"), ("GET", f"/v1/contacts/{contact}/export")):
        assert code(await stranger.call(method, path)) == (404, "not_found")
        assert code(await poor.call(method, path)) == (403, "missing_scope")


# At once --------------------------------------------------------------------------------------------------------------


async def test_h5_erase_while_the_customer_writes(hub_world: World, database_url: str) -> None:
    """Each message is of the old contact and erased with it, or of a new one and readable; never in between."""
    _, crm = await cast(hub_world)
    people = [Person(f"+49151100000{number:02d}", name=f"§{number}") for number in range(8)]
    customers = [hub_world.customer(one, **(SMS if place % 2 else {})) for place, one in enumerate(people)]

    async def keeps_writing(customer: Customer) -> None:
        for number in range(6):
            await customer.says(f"§ {number}")

    async def is_erased(customer: Customer) -> str:
        contact = await contact_of(crm, await writes(customer, crm, text=f"§ first of {customer.person.phone}"))
        writing = asyncio.create_task(keeps_writing(customer))
        await asyncio.sleep(0)
        await erase(hub_world, contact)
        await writing
        return contact

    erased = await asyncio.gather(*map(is_erased, customers))
    assert await erased_or_new(database_url, erased) == 8 * 7


async def test_h5_erase_while_an_address_of_the_customer_is_noted(hub_world: World, database_url: str) -> None:
    """The customer shows another id just as they are erased: they are erased with it, or come back as somebody new."""
    _, crm = await cast(hub_world)
    contact = await contact_of(crm, await writes(hub_world.customer(Person(MIA.phone)), crm))
    async with connected(database_url) as conn:
        blocker = conn.transaction()  # the id is just being noted for somebody else, who then has it not after all
        await blocker.start()
        people = People(conn)
        await people.has(await people.contact(), Address("user_id", MIA.user_id or ""))
        writing = asyncio.create_task(hub_world.customer(MIA).says("§ again"))
        await until(lambda: waiting_for_locks(database_url))
        erasing = asyncio.create_task(erase(hub_world, contact))
        while not erasing.done() and await waiting_for_locks(database_url) < 2:
            await asyncio.sleep(0.01)
        await blocker.rollback()
    await asyncio.gather(writing, erasing)
    await erased_or_new(database_url, [contact])


async def waiting_for_locks(database_url: str) -> int:
    """How many statements wait for others."""
    sql = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    return int(await ask(database_url, sql))


async def erased_or_new(database_url: str, erased: Collection[str]) -> int:
    """Everything stored is either of an erased contact, and unreadable, or of one that is not; gives the messages."""
    async with connected(database_url) as conn:
        rows = await conn.fetch(
            "select c.contact_id, m.content, c.reply_to_value"
            " from message m join conversation c on c.id = m.conversation_id"
        )
        held = await conn.fetchval(
            "select count(*) from contact_address a join contact c on c.id = a.contact_id"
            " where c.erased_at is not null and (a.value <> '' or a.removed_at is null)"
        )
        named = await conn.fetchval("select count(*) from contact where erased_at is not null and name is not null")
    assert (held, named) == (0, 0)
    for row in rows:
        is_gone = row["contact_id"] in {con(contact) for contact in erased}
        assert (row["content"] == CONTENT) is is_gone
        assert (row["reply_to_value"] == "") is is_gone
    return len(rows)


async def test_h5_erase_while_somebody_binds_a_browser(hub_world: World, database_url: str) -> None:
    """Whoever decides whose a browser is locks the contact: it comes before the erasure, or finds nobody."""
    await cast(hub_world)
    async with connected(database_url) as conn:
        people = People(conn)
        pairs = [(await people.contact("§"), await people.visitor()) for _ in range(10)]

    async def bind(contact: str, visitor: str) -> bool:
        async with connected(database_url) as conn, conn.transaction():
            await lock_visitors(conn, [vis(visitor)])
            if con(contact) not in await lock_contacts(conn, [con(contact)]):
                return False
            change = Bind(vis(visitor), con(contact), ago(hours=9), None, Trust.CLICK, NOW, "K3")
            await record(conn, Entry("click", "click", "K3", NOW, None, vis(visitor), con(contact)), [change])
            return True

    both = await asyncio.gather(
        *(asyncio.gather(*pair) for c, v in pairs for pair in [(erase(hub_world, c), bind(c, v))])
    )
    assert all(view["erased"] for view, _ in both)
    async with connected(database_url) as conn:
        assert await conn.fetchval("select count(*) from visitor_binding") == 0
        assert await conn.fetchval("select count(*) from identity_op where changes <> '[]'") == 0
        assert await conn.fetchval("select count(*) from contact where erased_at is null and name is not null") == 0


async def test_h5_erase_while_a_new_operation_is_undone(hub_world: World, database_url: str) -> None:
    """Whoever undoes an operation locks it before the contact: an erasure that has the contact must not wait for it."""
    await cast(hub_world)
    async with connected(database_url) as holder, connected(database_url) as undoing:
        contact = await People(holder).contact("§")
        holding = holder.transaction()
        await holding.start()
        await lock_contacts(holder, [con(contact)])
        erasing = asyncio.create_task(erase(hub_world, contact))
        await until(lambda: waiting_for_locks(database_url))
        async with undoing.transaction():  # it came while the contact was waited for, and is undone at once
            entry = Entry("declaration", "service", "I2", NOW, contact_id=con(contact))
            op_id = await record(undoing, entry, [Fill(con(contact), EMAIL, Standing.DECLARED, "I2")])
        async with undoing.transaction():
            assert op_id
            assert await lock(undoing, op_id)
            await undoing.execute("set local deadlock_timeout = '10ms'")
            await holding.rollback()
            waiting = "select query like '%identity_op%' from pg_stat_activity where wait_event_type = 'Lock'"
            await until(lambda: ask(database_url, waiting))
            assert await lock_contacts(undoing, [con(contact)])
    assert (await erasing)["erased"]
    assert await found(database_url) == {}


async def test_h5_erase_while_the_customer_taps_a_link(open_world: Open, database_url: str) -> None:
    """A click that lands then makes the browser nobody's; one that landed before is erased with its visits."""
    made = await open_world(**SETTINGS)
    crm, helpdesk, books = [await made.service(name, scopes=SCOPES) for name in ("crm", "helpdesk", "books")]
    await crm.connect()
    shop = Shop(made, database_url, crm, helpdesk, books)
    made.simulator.status_plan = StatusPlan.none()
    numbers = [phone() for _ in range(6)]
    for number in numbers:
        await shop.agrees(number, "granted")
    sent = [await shop.sms(number, f"See {page('offer')}") for number in numbers]
    people = [(await shop.contact(number))["id"] for number in numbers]
    devices = [shop.device() for _ in numbers]
    both = zip(people, devices, sent, strict=True)
    await asyncio.gather(*(step for who, device, one in both for step in (device.opens(one.link), erase(made, who))))
    await until(
        lambda: ask(database_url, "select count(*) = 6 from click")
    )  # of a busy machine, some came by the spool
    async with connected(database_url) as conn:
        assert await conn.fetchval("select count(*) from visitor_binding") == 0
        assert await conn.fetchval("select count(*) from landing where contact_id is not null") == 0
        assert await conn.fetchval("select count(*) from tracked_link where contact_id is not null") == 0
        everything = await People(conn).text_of_everything()
    for number in numbers:
        assert [name for name, rows in everything.items() if number[1:] in rows] == []


async def test_h5_erase_while_a_message_is_with_the_provider(hub_world: World, database_url: str) -> None:
    """What the provider has cannot be taken back; what it reports on it names nobody."""
    helpdesk, crm = await cast(hub_world)
    sms = hub_world.customer(MIA, **SMS)
    conversation = await writes(sms, helpdesk, crm, text="§ hello")
    contact = await contact_of(crm, conversation)
    hub_world.simulator.status_plan = StatusPlan.none()
    chat = hub_world.customer(MIA)
    over_meta = await crm.reply(await writes(chat, helpdesk, crm, text="§ over WhatsApp"), "§ answer", query="?wait=10")
    sent = await crm.reply(conversation, "§ answer", query="?wait=10")
    assert sent.json["message"]["provider_id"]
    assert over_meta.json["message"]["provider_id"]
    sends = await sms.hears(), await chat.hears()
    await erase(hub_world, contact)
    for send in sends:
        await hub_world.simulator.report(send, "delivered")
    shown = (await timeline(crm, conversation))[0]
    assert (shown["id"], shown["erased"]) == (sent.json["message"]["id"], True)
    assert await found(database_url) == {}
